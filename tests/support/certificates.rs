//! Certificates of a made-up authority, by the `openssl` program.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::bed::run;

/// A directory with an authority and the certificates that it issued.
pub(crate) struct Authority {
    directory: TempDir,
}

/// A certificate and its private key, PEM.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    /// The certificate.
    pub(crate) certificate: PathBuf,
    /// The key.
    pub(crate) key: PathBuf,
}

impl Authority {
    /// A new authority, which nobody trusts yet.
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("ca.").tempdir_in("/tmp");
        let authority = Self {
            directory: directory.expect("a directory in /tmp"),
        };
        authority.self_signed("ca");
        authority
    }

    /// The authority's own certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.path("ca.crt")
    }

    /// A certificate with extensions, written as in OpenSSL's configuration: `subjectAltName=DNS:localhost`.
    pub(crate) fn issue(&self, common_name: &str, extensions: &str) -> Issued {
        let file = self.path("extensions");
        std::fs::write(&file, format!("basicConstraints=CA:FALSE\n{extensions}\n")).expect("write");
        let extensions = ["-extfile", file.to_str().expect("UTF-8")];
        self.sign(common_name, &extensions)
    }

    /// A certificate without any extension, which makes it one of version 1.
    pub(crate) fn issue_version_1(&self, common_name: &str) -> Issued {
        self.sign(common_name, &[])
    }

    /// A certificate that signs itself.
    pub(crate) fn self_signed(&self, common_name: &str) -> Issued {
        let issued = self.files(common_name);
        let mut command = self.openssl(&["req", "-x509", "-days", "2", "-nodes"]);
        command
            .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-subj", &format!("/CN={common_name}"), "-out"])
            .arg(&issued.certificate)
            .arg("-keyout")
            .arg(&issued.key);
        run(&mut command);
        issued
    }

    fn sign(&self, common_name: &str, arguments: &[&str]) -> Issued {
        let issued = self.files(common_name);
        let request = self.path("request");
        let mut command = self.openssl(&["req", "-new", "-nodes"]);
        command
            .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-subj", &format!("/CN={common_name}"), "-out"])
            .arg(&request)
            .arg("-keyout")
            .arg(&issued.key);
        run(&mut command);
        let mut command = self.openssl(&["x509", "-req", "-days", "2", "-CAcreateserial"]);
        command
            .args(arguments)
            .args(["-CA", "ca.crt", "-CAkey", "ca.key", "-in"])
            .arg(&request)
            .arg("-out")
            .arg(&issued.certificate);
        run(&mut command);
        issued
    }

    fn openssl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("openssl");
        command.args(arguments).current_dir(self.directory.path());
        command
    }

    fn files(&self, name: &str) -> Issued {
        Issued {
            certificate: self.path(&format!("{name}.crt")),
            key: self.path(&format!("{name}.key")),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.directory.path()).join(name)
    }
}
