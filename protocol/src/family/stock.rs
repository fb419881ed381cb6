//! Movements, counts and reservations of stock (POSLog: InventoryControlTransaction; GS1 EPCIS).

pub mod v1;
