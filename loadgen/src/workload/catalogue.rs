//! What the chain sells. Few SKUs are hot, most are rare.

use hashbrown::HashMap;
use till_protocol::id::SkuId;
use till_protocol::quantity::unit;

use super::dice::Dice;
use crate::engine::to_f64;

/// How sharply sales gather on the hottest goods (Zipf's exponent).
const SHARPNESS: f64 = 0.9;
/// A VAT or sales tax rate in 1e-7: standard, reduced, none.
const RATES: [i64; 3] = [1_900_000, 700_000, 0];

/// An item of the catalogue.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Item {
    /// Its code: a GTIN-13 with a valid check digit.
    pub code: String,
    /// The id of the code.
    pub id: u64,
    /// Price of one unit in minor units.
    pub price: i64,
    /// Category.
    pub category: u32,
    /// Tax rate in 1e-7.
    pub rate: i64,
    /// Unit of measure.
    pub unit: u8,
}

/// All items, hottest first.
#[derive(Clone, Debug)]
pub struct Catalogue {
    items: Vec<Item>,
    /// Running sums of the items' weights, rising.
    weights: Vec<f64>,
    places: HashMap<u64, usize>,
}

impl Catalogue {
    /// The catalogue of a seed. `skus` below 1 counts as 1.
    pub fn new(seed: u64, skus: u32) -> Self {
        Self::numbered(seed, skus, 0)
    }

    /// A few SKUs that only this rude device has.
    pub(crate) fn rude(seed: u64, device: u32) -> Self {
        Self::numbered(seed, 20, 1_000_000_000 + u64::from(device) * 100)
    }

    /// Goods that are traded in bulk and never counted.
    pub(crate) fn bulk(seed: u64, skus: u32) -> Self {
        Self::numbered(seed, skus, 2_000_000_000)
    }

    fn numbered(seed: u64, skus: u32, first: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0xca7a_1065);
        let mut sum = 0.0;
        let mut weights = Vec::new();
        let mut items: Vec<Item> = Vec::new();
        for rank in 1..=u64::from(skus.max(1)) {
            sum += to_f64(rank).powf(-SHARPNESS);
            weights.push(sum);
            items.push(item(&mut dice, first + rank));
        }
        let places = items
            .iter()
            .enumerate()
            .map(|(place, item)| (item.id, place))
            .collect();
        Self {
            items,
            weights,
            places,
        }
    }

    /// The item with an id.
    pub fn by_id(&self, id: u64) -> Option<&Item> {
        self.places
            .get(&id)
            .and_then(|place| self.items.get(*place))
    }

    /// All items, hottest first.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// An item, hot ones more often.
    pub fn pick(&self, dice: &mut Dice) -> &Item {
        let total = self.weights.last().copied().unwrap_or(1.0);
        let point = dice.unit() * total;
        let at = self.weights.partition_point(|sum| *sum <= point);
        self.at(at)
    }

    /// Any item, each as often as the other.
    pub fn any(&self, dice: &mut Dice) -> &Item {
        self.at(dice.index(self.items.len()))
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "a catalogue is never empty and the place is cut to it"
    )]
    fn at(&self, index: usize) -> &Item {
        &self.items[index.min(self.items.len() - 1)]
    }
}

fn item(dice: &mut Dice, rank: u64) -> Item {
    let code = gtin13(200_000_000_000 + rank);
    let category = u32::try_from(dice.below(40)).unwrap_or(0) + 1;
    // Most goods cost a few units of money, some a few hundred; many end in 9.
    let scale = [99, 349, 999, 2_999, 14_999];
    let top = scale.get(dice.index(scale.len())).copied().unwrap_or(999);
    let price = (dice.between(49, top.max(59)) / 10) * 10 + 9;
    Item {
        id: SkuId::of_code(&code).get(),
        code,
        price,
        category,
        rate: RATES.get(dice.index(RATES.len())).copied().unwrap_or(0),
        unit: if dice.in_1000(120) {
            unit::KILOGRAM
        } else {
            unit::EACH
        },
    }
}

/// A GTIN-13 of 12 digits and their check digit.
fn gtin13(digits: u64) -> String {
    let body = format!("{digits:012}");
    let sum: u32 = body
        .bytes()
        .enumerate()
        .map(|(place, byte)| u32::from(byte - b'0') * if place % 2 == 0 { 1 } else { 3 })
        .sum();
    format!("{body}{}", (10 - sum % 10) % 10)
}
