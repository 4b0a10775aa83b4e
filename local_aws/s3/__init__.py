"""S3: what stands before the emulator, and the policies of VPC endpoints."""
