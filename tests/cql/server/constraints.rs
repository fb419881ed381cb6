use till_storage::cluster::{Constraint, Constraints, SharedStore as _};

use crate::world::opened;

#[test]
fn constraints_are_read_as_they_were_made_and_taken_back() {
    let (_world, store) = opened("wishes");
    let mut wanted = Constraints::default();
    assert_eq!(store.constraints().unwrap(), wanted);
    let place = |slot, address: Option<&str>| Constraint::Place {
        slot,
        address: address.map(str::to_owned),
    };
    let drain = |address: &str, is_cordoned| Constraint::Drain {
        address: address.to_owned(),
        is_cordoned,
    };
    for constraint in [
        place(3, Some("a:1")),
        place(5, Some("b:1")),
        place(3, Some("b:1")),
        drain("a:1", true),
        drain("a:1", true),
        drain("c:1", true),
        place(5, None),
        place(7, None),
        drain("c:1", false),
        drain("d:1", false),
    ] {
        store.constraint(&constraint).unwrap();
        wanted.change(&constraint);
        assert_eq!(store.constraints().unwrap(), wanted, "{constraint:?}");
    }
    assert_eq!(wanted.slots.len() + wanted.cordoned.len(), 2);
    assert_eq!(store.known_chain_key().unwrap(), None);
    let key = store.chain_key([7; 32]).unwrap();
    assert_eq!((key, store.chain_key([8; 32]).unwrap()), ([7; 32], [7; 32]));
    assert_eq!(store.known_chain_key().unwrap(), Some([7; 32]));
}
