//! Who may use the admin API: whoever has the token, or, where none is set, whoever is on this machine.
//!
//! "On this machine" must not include the web pages that somebody reads there. A page can make a browser send requests
//! to 127.0.0.1: so a changing request from a page of another origin is refused, and without a token the `Host` must be
//! a loopback name, for a hostile name may resolve to 127.0.0.1 (DNS rebinding).

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Admin;
use super::problem::{Class, Problem};

/// What an orchestrator of containers asks without a token; it tells nothing.
const OPEN: [&str; 2] = ["/livez", "/readyz"];

/// Lets a request pass, or refuses it.
pub(super) async fn guard(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let open = OPEN.contains(&request.uri().path());
    let token = admin.shared.setup.token.get();
    let changes = !request.method().is_safe();
    match if open { Ok(()) } else { admit(token.as_ref().as_ref(), changes, request.headers()) } {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn admit(token: Option<&SecretString>, changes: bool, headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(HOST).unwrap_or_default();
    if changes && let Some(origin) = text(ORIGIN) {
        let authority = origin.parse::<Uri>().ok().and_then(|origin| origin.authority().cloned());
        if !authority.is_some_and(|authority| authority.as_str().eq_ignore_ascii_case(host)) {
            return Err(Problem::new(Class::Forbidden, "a page of another origin may not change anything here"));
        }
    }
    match token {
        Some(token) => match text(AUTHORIZATION).and_then(bearer) {
            Some(given) if is_same(given, token.expose_secret()) => Ok(()),
            Some(_) => Err(Problem::new(Class::Unauthorized, "the token is not the one in TROUPE_ADMIN_TOKEN")),
            None => {
                let detail = "send Authorization: Bearer with the token in TROUPE_ADMIN_TOKEN";
                Err(Problem::new(Class::Unauthorized, detail))
            }
        },
        None if host.is_empty() || is_loopback(host) => Ok(()),
        None => {
            let detail = "without TROUPE_ADMIN_TOKEN only requests to localhost or 127.0.0.1 are answered";
            Err(Problem::new(Class::Forbidden, detail))
        }
    }
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Compares digests, so that neither the place of the first difference nor the length shows in the time.
fn is_same(given: &str, token: &str) -> bool {
    Sha256::digest(given.as_bytes()).as_slice().ct_eq(Sha256::digest(token.as_bytes()).as_slice()).into()
}

fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_the_token_opens() {
        let token = SecretString::from("let-me-in");
        let passes = |value| admit(Some(&token), true, &headers(&[(AUTHORIZATION, value)])).is_ok();
        assert!(passes("Bearer let-me-in") && passes("bearer let-me-in"));
        for bad in ["Bearer let-me-i", "Bearer let-me-in2", "Bearer ", "Basic let-me-in", "let-me-in", ""] {
            assert!(!passes(bad), "{bad:?} passed");
        }
        assert!(admit(Some(&token), false, &HeaderMap::new()).is_err());
        let refusal = admit(Some(&token), false, &headers(&[(AUTHORIZATION, "Bearer guess-123")])).unwrap_err();
        assert!(!format!("{refusal:?}").contains("let-me-in") && !format!("{refusal:?}").contains("guess-123"));
    }

    #[test]
    fn without_a_token_only_this_machine_is_answered() {
        let passes = |host| admit(None, false, &headers(&[(HOST, host)])).is_ok();
        for good in ["localhost", "localhost:8081", "127.0.0.1:8081", "127.8.8.8", "[::1]:8081", "a.localhost"] {
            assert!(passes(good), "{good} was refused");
        }
        for bad in ["evil.example", "127.0.0.1.evil.example:8081", "192.168.1.5", "localhost.evil.example", "::::"] {
            assert!(!passes(bad), "{bad} passed");
        }
    }

    #[test]
    fn a_page_of_another_origin_changes_nothing() {
        let with = |origin| headers(&[(HOST, "localhost:8081"), (ORIGIN, origin)]);
        assert!(admit(None, true, &with("http://localhost:8081")).is_ok());
        for bad in ["http://evil.example", "null", "http://localhost:3000", ""] {
            assert!(admit(None, true, &with(bad)).is_err(), "{bad} passed");
        }
        assert!(admit(None, false, &with("http://evil.example")).is_ok(), "a page cannot read what it gets");
    }
}
