//! TLS to the server: `sslmode=verify-full` lets in the one certificate that was meant, and nobody else's.
//!
//! Each case gets the server and an empty database, and answers what did not hold as text.

use std::time::Duration;

use troupe_runtime::postgres::{Database, Error, Options};
use troupe_tests::authority::Authority;
use troupe_tests::postgres::Postgres;

use super::server::Run;

pub(crate) const CASES: [(&str, Run); 1] =
    [("verify-full lets in the certificate that was meant and no other", |server, url| {
        Box::pin(verified(server, url))
    })];

async fn verified(server: &Postgres, url: String) -> Result<(), String> {
    let (ours, strangers) = (Authority::new("ours"), Authority::new("strangers"));
    let with = |authority: &Authority| {
        let root = authority.root();
        url.replace("sslmode=disable", &format!("sslmode=verify-full&sslrootcert={}", root.display()))
    };
    refused("a server without TLS", &with(&ours)).await?;

    let (certificate, key) = ours.issue("IP:127.0.0.1");
    server.secure(&certificate, &key).await;
    let opened = Database::open(&with(&ours).as_str().into(), &options()).await;
    opened.map_err(|error| format!("the right certificate was refused: {error}"))?.close().await;
    refused("another authority", &with(&strangers)).await?;
    refused("the public authorities", &url.replace("sslmode=disable", "sslmode=verify-full")).await?;

    let (certificate, key) = ours.issue("DNS:elsewhere.example");
    server.secure(&certificate, &key).await;
    refused("a certificate for another name", &with(&ours)).await?;
    let any_name = with(&ours).replace("sslmode=verify-full", "sslmode=verify-ca");
    let opened = Database::open(&any_name.as_str().into(), &options()).await;
    opened.map_err(|error| format!("verify-ca asks for no name: {error}"))?.close().await;
    Ok(())
}

/// Nothing is waited for: what is refused once is refused for good.
fn options() -> Options {
    Options { start_timeout: Duration::ZERO, ..Options::default() }
}

async fn refused(who: &str, url: &str) -> Result<(), String> {
    match Database::open(&url.into(), &options()).await {
        Ok(database) => {
            database.close().await;
            Err(format!("{who} was let in"))
        }
        Err(Error::Refused { .. }) => Ok(()),
        Err(other) => Err(format!("{who}: {other:?} is no clear refusal")),
    }
}
