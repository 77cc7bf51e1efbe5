//! The Rust types that a key may have: how each reads from the tree, and how its default is written in YAML.
//!
//! Used by the agent decoder and by every section of the node configuration. Reading is lenient: [`super::check`]
//! has already said what is wrong, with its place.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::secret::{ExposeSecret as _, SecretString};

use super::located::{Node, Value};
use super::measure;
use super::node::NodeKey;
use super::table::Kind;

/// A type that a key may have.
pub(crate) trait Setting: Sized {
    /// The value of a checked node.
    fn read(node: &Node) -> Option<Self>;

    /// The value as YAML, as people would write it for a key of `kind`; `None` for "not set".
    fn yaml(&self, kind: &Kind) -> Option<String>;

    /// Whether `other` sets the same.
    fn is_same(&self, other: &Self) -> bool;

    /// The keys at which `other` sets something else; this one is at `at`, and a change of it is `live` or not.
    fn differ(&self, other: &Self, at: &str, live: bool, found: &mut Vec<NodeKey>) {
        if !self.is_same(other) {
            found.push(NodeKey { key: at.to_owned(), live });
        }
    }
}

/// The value of `key` in a checked mapping.
pub(crate) fn value<T: Setting>(mapping: &Node, key: &str) -> Option<T> {
    mapping.get(key).and_then(T::read)
}

impl Setting for u64 {
    fn read(node: &Node) -> Option<Self> {
        node.whole().or_else(|| measure::size(&node.amount()?).ok())
    }

    fn yaml(&self, kind: &Kind) -> Option<String> {
        Some(if matches!(kind, Kind::Size(..)) { measure::show_size(*self) } else { self.to_string() })
    }

    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

/// Narrower numbers read as `u64` does; the bounds of their key keep them in range.
macro_rules! narrow {
    ($($number:ty),*) => {$(
        impl Setting for $number {
            fn read(node: &Node) -> Option<Self> {
                u64::read(node).and_then(|number| Self::try_from(number).ok())
            }

            fn yaml(&self, kind: &Kind) -> Option<String> {
                u64::try_from(*self).ok().and_then(|number| number.yaml(kind))
            }

            fn is_same(&self, other: &Self) -> bool {
                self == other
            }
        }
    )*};
}
narrow!(u16, u32, usize);

impl Setting for Duration {
    fn read(node: &Node) -> Option<Self> {
        measure::duration(node.text()?).ok()
    }

    fn yaml(&self, _: &Kind) -> Option<String> {
        Some(measure::show_duration(*self))
    }

    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Setting for String {
    fn read(node: &Node) -> Option<Self> {
        node.text().map(str::to_owned)
    }

    fn yaml(&self, _: &Kind) -> Option<String> {
        let misread = Value::plain(self) != Value::Text(self.clone())
            || self.starts_with('*')
            || self.ends_with(':')
            || self.contains(": ");
        Some(if self.is_empty() || misread { format!("{self:?}") } else { self.clone() })
    }

    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Setting for PathBuf {
    fn read(node: &Node) -> Option<Self> {
        node.text().map(Self::from)
    }

    fn yaml(&self, kind: &Kind) -> Option<String> {
        self.to_string_lossy().into_owned().yaml(kind)
    }

    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Setting for SocketAddr {
    fn read(node: &Node) -> Option<Self> {
        socket_addr(node.text()?)
    }

    fn yaml(&self, _: &Kind) -> Option<String> {
        Some(self.to_string())
    }

    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Setting for SecretString {
    fn read(node: &Node) -> Option<Self> {
        node.text().map(Self::from)
    }

    fn yaml(&self, _: &Kind) -> Option<String> {
        None
    }

    fn is_same(&self, other: &Self) -> bool {
        self.expose_secret() == other.expose_secret()
    }
}

impl<T: Setting> Setting for Option<T> {
    fn read(node: &Node) -> Option<Self> {
        T::read(node).map(Some)
    }

    fn yaml(&self, kind: &Kind) -> Option<String> {
        self.as_ref().and_then(|value| value.yaml(kind))
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Some(one), Some(other)) => one.is_same(other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn read(node: &Node) -> Option<Self> {
        node.items().iter().map(T::read).collect()
    }

    fn yaml(&self, kind: &Kind) -> Option<String> {
        let item_kind = if let Kind::List(of, _) = kind { of } else { kind };
        let items: Vec<String> = self.iter().filter_map(|item| item.yaml(item_kind)).collect();
        Some(format!("[{}]", items.join(", ")))
    }

    fn is_same(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().zip(other).all(|(one, other)| one.is_same(other))
    }
}

impl<T: Setting> Setting for BTreeMap<String, T> {
    fn read(node: &Node) -> Option<Self> {
        node.entries().iter().map(|entry| Some((entry.key.clone(), T::read(&entry.node)?))).collect()
    }

    fn yaml(&self, kind: &Kind) -> Option<String> {
        let of = if let Kind::Map(of, _) = kind { of } else { kind };
        let lines = self.iter().filter_map(|(key, value)| Some(format!("\n  {key}: {}", value.yaml(of)?)));
        Some(if self.is_empty() { "{}".to_owned() } else { lines.collect() })
    }

    fn is_same(&self, other: &Self) -> bool {
        let same = |(one, other): ((&String, &T), (&String, &T))| one.0 == other.0 && one.1.is_same(other.1);
        self.len() == other.len() && self.iter().zip(other).all(same)
    }
}

/// `address:port`; `localhost` stands for `127.0.0.1`, which is what the defaults bind.
pub(crate) fn socket_addr(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => port.parse().ok().map(|port: u16| (Ipv4Addr::LOCALHOST, port).into()),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::problem::At;
    use super::*;

    fn text(text: &str) -> Node {
        Node { at: At::named("X"), value: Value::Text(text.to_owned()) }
    }

    #[test]
    fn sizes_and_counts_read_alike() {
        assert_eq!(usize::read(&text("1 MiB")), Some(1 << 20));
        assert_eq!(u16::read(&text("70000")), None);
        assert_eq!((1_usize << 20).yaml(&Kind::Size(0, u64::MAX)), Some("1 MiB".into()));
        assert_eq!(20_u32.yaml(&Kind::Whole(0, 99)), Some("20".into()));
    }

    #[test]
    fn texts_are_quoted_where_yaml_would_misread_them() {
        assert_eq!("plain".to_owned().yaml(&Kind::Any), Some("plain".into()));
        assert_eq!("12".to_owned().yaml(&Kind::Any), Some("\"12\"".into()));
        assert_eq!(String::new().yaml(&Kind::Any), Some("\"\"".into()));
    }

    #[test]
    fn localhost_is_loopback() {
        assert_eq!(socket_addr("localhost:80"), "127.0.0.1:80".parse().ok());
        assert_eq!(socket_addr("[::1]:80"), "[::1]:80".parse().ok());
        assert_eq!(socket_addr("example.org:80"), None);
    }

    #[test]
    fn a_secret_has_no_yaml() {
        assert_eq!(SecretString::from("x").yaml(&Kind::Any), None);
    }
}
