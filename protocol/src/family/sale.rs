//! Completed retail transactions (POSLog: RetailTransaction).

pub mod v1;
