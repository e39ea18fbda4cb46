"""ONE JOB EACH: load artifacts, unpack the config, call the method, commit what came out."""
