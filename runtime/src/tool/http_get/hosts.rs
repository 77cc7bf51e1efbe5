//! The hosts that a spec lets `http_get` reach.
//!
//! An entry is `example.org` (that host), `*.example.org` (every host below it, not itself) or `*` (any), with `:port`
//! where it is not the scheme's own; `:*` allows any port. Hosts are compared as URLs read them: lower case, punycode,
//! and an IPv4 address in whatever disguise is that address.

use url::{Host, Url};

use crate::tool::Error;

/// A checked list of hosts.
#[derive(Debug)]
pub(super) struct Hosts {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    host: Pattern,
    port: Port,
}

#[derive(Debug)]
enum Pattern {
    Any,
    Exactly(Host),
    /// With the leading dot.
    Below(String),
}

#[derive(Debug, Clone, Copy)]
enum Port {
    /// That of the scheme.
    Usual,
    Any,
    Exactly(u16),
}

impl Hosts {
    /// Reads the entries of a spec.
    pub(super) fn parse(entries: &[String]) -> Result<Self, Error> {
        if entries.is_empty() {
            return Err(Error::NoHosts);
        }
        let parse = |entry: &String| Entry::parse(entry.trim()).ok_or_else(|| Error::BadHost { entry: entry.clone() });
        Ok(Self { entries: entries.iter().map(parse).collect::<Result<_, _>>()? })
    }

    /// Whether `url` leads to one of the hosts.
    pub(super) fn allow(&self, url: &Url) -> bool {
        let Some(host) = url.host().map(|host| host.to_owned()).map(without_dot) else { return false };
        self.entries.iter().any(|entry| entry.host.covers(&host) && entry.port.covers(url))
    }
}

impl Entry {
    fn parse(entry: &str) -> Option<Self> {
        let (host, port) = match entry.rsplit_once(':') {
            // The colons of an IPv6 address are inside its brackets.
            Some((host, port)) if !port.ends_with(']') => (host, Port::parse(port)?),
            _ => (entry, Port::Usual),
        };
        // The parser takes a star for a letter like others.
        let domain = |text: &str| Host::parse(text).ok().filter(|_| !text.contains('*')).map(without_dot);
        let host = if host == "*" {
            Pattern::Any
        } else if let Some(parent) = host.strip_prefix("*.") {
            let Host::Domain(parent) = domain(parent)? else { return None };
            Pattern::Below(format!(".{parent}"))
        } else {
            Pattern::Exactly(domain(host)?)
        };
        Some(Self { host, port })
    }
}

impl Pattern {
    fn covers(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Exactly(exactly), host) => exactly == host,
            (Self::Below(parent), Host::Domain(domain)) => {
                domain.strip_suffix(parent.as_str()).is_some_and(|below| !below.is_empty())
            }
            (Self::Below(_), Host::Ipv4(_) | Host::Ipv6(_)) => false,
        }
    }
}

impl Port {
    fn parse(port: &str) -> Option<Self> {
        if port == "*" { Some(Self::Any) } else { port.parse().ok().map(Self::Exactly) }
    }

    fn covers(self, url: &Url) -> bool {
        match self {
            // `Url` leaves out the port that is the scheme's own.
            Self::Usual => url.port().is_none(),
            Self::Any => true,
            Self::Exactly(port) => url.port_or_known_default() == Some(port),
        }
    }
}

/// A name with the dot of the root at its end is the same name.
fn without_dot(host: Host) -> Host {
    match host {
        Host::Domain(domain) => Host::Domain(domain.trim_end_matches('.').to_owned()),
        address @ (Host::Ipv4(_) | Host::Ipv6(_)) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(entries: &[&str], url: &str) -> bool {
        let entries: Vec<_> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        Hosts::parse(&entries).unwrap().allow(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_host_is_itself_in_every_spelling() {
        for url in ["https://example.org/x", "http://EXAMPLE.org", "https://example.org.:443/"] {
            assert!(allow(&["Example.ORG"], url), "{url}");
        }
        for url in ["https://a.example.org", "https://example.org.evil.net", "https://badexample.org", "http://1.2.3.4"]
        {
            assert!(!allow(&["example.org"], url), "{url}");
        }
        assert!(allow(&["bücher.example"], "https://xn--bcher-kva.example/"));
        assert!(allow(&["192.0.2.1"], "http://3221225985/"));
    }

    #[test]
    fn a_star_covers_what_is_below() {
        assert!(allow(&["*.example.org"], "https://a.example.org"));
        assert!(allow(&["*.example.org"], "https://a.b.example.org."));
        for url in ["https://example.org", "https://.example.org", "https://aexample.org", "http://example.org.net"] {
            assert!(!allow(&["*.example.org"], url), "{url}");
        }
        assert!(allow(&["*"], "https://anything.example"));
    }

    #[test]
    fn ports_beyond_the_usual_need_a_word() {
        assert!(!allow(&["example.org"], "https://example.org:8443"));
        assert!(!allow(&["*"], "https://example.org:22"));
        assert!(allow(&["example.org:8443"], "https://example.org:8443"));
        assert!(!allow(&["example.org:8443"], "https://example.org"));
        assert!(allow(&["example.org:443"], "https://example.org"));
        assert!(allow(&["*.example.org:*"], "http://a.example.org:9"));
        assert!(allow(&["[2606:4700::1111]:8080", "[2606:4700::1111]"], "http://[2606:4700::1111]/"));
    }

    #[test]
    fn entries_that_name_no_host_are_refused() {
        for bad in ["", "*.", "a b", "https://example.org", "example.org/x", "*.1.2.3.4", "x:99999", "a.*.org", "x:"] {
            let refused = Hosts::parse(&[bad.to_owned()]);
            assert!(matches!(refused, Err(Error::BadHost { .. })), "{bad:?} gave {refused:?}");
        }
        assert!(matches!(Hosts::parse(&[]), Err(Error::NoHosts)));
    }
}
