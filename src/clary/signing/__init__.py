"""AWS signatures, made and checked; knows no botocore and no wire protocol."""
