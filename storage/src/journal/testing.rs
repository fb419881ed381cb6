//! Makes records for tests.
