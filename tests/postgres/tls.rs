//! TLS to the server: `sslmode=verify-full` lets in the one certificate that was meant, and nobody else's.
//!
//! The certificates are made by the openssl program, which PostgreSQL's package brings along; they live in a temporary
//! folder. Each case gets the server and an empty database, and answers what did not hold as text.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use troupe_runtime::postgres::{Database, Error, Options};
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

/// Who signs certificates.
struct Authority {
    folder: TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        let authority = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        let subject = format!("/CN={name}");
        authority.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &subject,
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
        ]);
        authority
    }

    fn root(&self) -> PathBuf {
        self.path("ca.crt")
    }

    /// A certificate and its key, for a server that is found under `name`.
    fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        std::fs::write(self.path("names"), format!("subjectAltName={name}\n")).expect("a file");
        self.openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            "/CN=server",
            "-keyout",
            "server.key",
            "-out",
            "server.csr",
        ]);
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "names",
            "-out",
            "server.crt",
        ]);
        (self.path("server.crt"), self.path("server.key"))
    }

    fn openssl(&self, args: &[&str]) {
        let made = Command::new("openssl").args(args).current_dir(self.folder.path()).output().expect("openssl runs");
        assert!(made.status.success(), "openssl {}: {}", args[0], String::from_utf8_lossy(&made.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::join(self.folder.path(), name)
    }
}
