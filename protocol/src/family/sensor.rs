//! Readings of shelf and device sensors (GS1 EPCIS: sensorReport).

pub mod v1;
