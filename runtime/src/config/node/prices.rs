//! What models cost, for `limits.cost_usd` and the usage that tasks show.
//!
//! The defaults are list prices known when this version was made; an operator overrides them, whole, with
//! `models.prices`. Money is in millionths of a dollar throughout, so that sums are exact.

use std::collections::BTreeMap;

use crate::config::located::Node;
use crate::config::measure;
use crate::config::setting::Setting;
use crate::config::table::{Change, Key, Kind, Need, Table};

/// The price of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// A million tokens that go in, in millionths of a US dollar.
    pub input_microusd: u64,
    /// A million tokens that come out, in millionths of a US dollar.
    pub output_microusd: u64,
}

/// Dollars per million tokens that a typing error cannot pass.
const USD_MAX: u64 = 10_000 * 1_000_000;

pub(crate) const PRICE: Table = Table {
    keys: &[
        Key {
            name: "input_usd",
            doc: "US dollars for a million tokens that go in.",
            kind: Kind::Usd(USD_MAX),
            need: Need::Required,
            change: Change::Live,
        },
        Key {
            name: "output_usd",
            doc: "US dollars for a million tokens that come out.",
            kind: Kind::Usd(USD_MAX),
            need: Need::Required,
            change: Change::Live,
        },
    ],
    one_of: &[],
};

impl Setting for Price {
    fn read(node: &Node) -> Option<Self> {
        let price = |key: &str| measure::microusd(&node.get(key)?.digits()?).ok();
        Some(Self { input_microusd: price("input_usd")?, output_microusd: price("output_usd")? })
    }

    fn is_same(&self, other: &Self) -> bool {
        self == other
    }

    fn yaml(&self, _: &Kind) -> Option<String> {
        let (input, output) = (measure::show_usd(self.input_microusd), measure::show_usd(self.output_microusd));
        Some(format!("{{input_usd: {input}, output_usd: {output}}}"))
    }
}

/// List prices, input and output, in thousandths of a dollar per million tokens.
const KNOWN: [(&str, u64, u64); 6] = [
    ("claude-haiku-4-5", 1_000, 5_000),
    ("claude-opus-4-5", 5_000, 25_000),
    ("claude-sonnet-4-5", 3_000, 15_000),
    ("gpt-5", 1_250, 10_000),
    ("gpt-5-mini", 250, 2_000),
    ("gpt-5-nano", 50, 400),
];

/// The prices that hold unless the configuration has its own.
pub(super) fn known() -> BTreeMap<String, Price> {
    KNOWN
        .into_iter()
        .map(|(model, input, output)| {
            (model.to_owned(), Price { input_microusd: input * 1_000, output_microusd: output * 1_000 })
        })
        .collect()
}
