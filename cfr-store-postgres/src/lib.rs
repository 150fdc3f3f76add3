//! The books of the CloudFreedom Router in Postgres, shared by many replicas.
