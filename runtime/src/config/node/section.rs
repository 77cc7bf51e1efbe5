//! One definition per section of the node configuration.
//!
//! `section!` makes, from one list of documented fields: the struct with its docs, its `Default`, its table of keys
//! (check, schema, example file) and its reading from the tree. Written by hand these would be four lists of the same
//! hundred names, and would drift.

/// Makes a section: each field is `name: type = default, kind;`.
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        pub struct $section:ident {
            $( $(#[doc = $doc:literal])* $field:ident: $type:ty = $default:expr, $kind:expr; )*
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
        }
    };
}

pub(crate) use section;
