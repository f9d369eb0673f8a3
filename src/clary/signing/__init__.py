"""AWS signatures, made and checked; knows no botocore and no disk but the key file."""
