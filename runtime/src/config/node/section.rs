//! One definition per section of the node configuration.
//!
//! `section!` makes, from one list of documented fields: the struct with its docs, its `Default`, its table of keys
//! (check, schema, example file), its reading from the tree, and in what two of them differ. Written by hand these would be four lists of the same
//! hundred names, and would drift.

/// When a change of a field has its effect, by its word.
macro_rules! change {
    (live) => {
        $crate::config::table::Change::Live
    };
    (restart) => {
        $crate::config::table::Change::Restart
    };
    (parts) => {
        $crate::config::table::Change::Parts
    };
}

/// Makes a section: each field is `name: type = default, kind, change;`, where change is `live` (has its effect while the node
/// runs), `restart` (needs one) or `parts` (a section, whose keys say it). There is no key without one.
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        pub struct $section:ident {
            $( $(#[doc = $doc:literal])* $field:ident: $type:ty = $default:expr, $kind:expr, $change:ident; )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone)]
        pub struct $section {
            $( $(#[doc = $doc])* pub $field: $type, )*
        }

        impl Default for $section {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $section {
            /// The keys of the section.
            pub(crate) const TABLE: $crate::config::table::Table = $crate::config::table::Table {
                keys: &[ $(
                    $crate::config::table::Key {
                        name: stringify!($field),
                        doc: concat!($($doc),*).trim_ascii(),
                        kind: $kind,
                        need: $crate::config::table::Need::Default(|| {
                            let default: $type = $default;
                            $crate::config::setting::Setting::yaml(&default, &$kind)
                        }),
                        change: $crate::config::node::section::change!($change),
                    },
                )* ],
                one_of: &[],
            };
        }

        impl $crate::config::setting::Setting for $section {
            fn read(node: &$crate::config::located::Node) -> Option<Self> {
                let mut section = Self::default();
                $(
                    if let Some(value) = $crate::config::setting::value(node, stringify!($field)) {
                        section.$field = value;
                    }
                )*
                Some(section)
            }

            fn yaml(&self, _: &$crate::config::table::Kind) -> Option<String> {
                None
            }

            fn is_same(&self, other: &Self) -> bool {
                true $( && $crate::config::setting::Setting::is_same(&self.$field, &other.$field) )*
            }

            fn differ(&self, other: &Self, at: &str, _: bool, found: &mut Vec<$crate::config::node::NodeKey>) {
                $(
                    let key = if at.is_empty() { stringify!($field).to_owned() } else { format!("{at}.{}", stringify!($field)) };
                    let live = $crate::config::node::section::change!($change) == $crate::config::table::Change::Live;
                    $crate::config::setting::Setting::differ(&self.$field, &other.$field, &key, live, found);
                )*
            }
        }
    };
}

pub(crate) use {change, section};
