//! Certificates for servers of the tests, made by the openssl program, which PostgreSQL's package brings along.
//!
//! They live in a temporary folder and are good for two days. Who calls: the tests of TLS.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Who signs certificates.
#[derive(Debug)]
pub struct Authority {
    folder: TempDir,
}

impl Authority {
    /// A new one of this name.
    ///
    /// # Panics
    /// Without openssl.
    #[must_use]
    pub fn new(name: &str) -> Self {
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

    /// Its own certificate, which is to be trusted.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.path("ca.crt")
    }

    /// A certificate and its key, for a server that is found under `name` (`IP:…` or `DNS:…`).
    ///
    /// # Panics
    /// Without openssl.
    #[must_use]
    pub fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
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
