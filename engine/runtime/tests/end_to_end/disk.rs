//! A disk that is full: nothing acknowledged is lost, nothing is acknowledged that is not durable.
