"""Places that are watched for files: a folder of this machine, SFTP, S3 and the like."""
