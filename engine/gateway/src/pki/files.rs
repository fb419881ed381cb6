//! Where certificates lie, and whether they have changed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use till_runtime::PkiConfig;

use super::authority::make;
use super::lists::{LIST, Lists};
use super::{Pki, PkiError, certificates, content, read};

/// A file that was written so shortly before it was looked at may have been written again since, at the same time of the
/// file system's clock.
const UNSURE: Duration = Duration::from_secs(2);

/// The files that say who an engine is and whom it believes.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    list: Option<PathBuf>,
    /// Without the list nothing is believed.
    needs_list: bool,
    /// One file holds authority, certificate and key.
    is_identity: bool,
    /// The one-file identity that was made for devices, with an own authority.
    pub(crate) identity: Option<PathBuf>,
}

/// How the files looked.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Stamps {
    of: Vec<Option<(SystemTime, u64, u64)>>,
    is_unsure: bool,
}

impl Files {
    /// Finds the files, or makes them where the engine is its own authority and has none yet.
    pub(crate) fn find(
        config: &PkiConfig,
        list: Option<&Path>,
        data_dir: &Path,
    ) -> Result<Self, PkiError> {
        let beside = |file: &Path| {
            let named = list.map(Path::to_path_buf);
            Some(named.unwrap_or_else(|| file.with_file_name(LIST)))
        };
        let needs_list = list.is_some();
        Ok(match config {
            PkiConfig::Dev => {
                let dir = data_dir.join("pki");
                if !dir.exists() {
                    make(&dir)?;
                }
                let server = dir.join("server.pem");
                Self {
                    ca: dir.join("ca.pem"),
                    list: beside(&server),
                    certificate: server.clone(),
                    key: server,
                    needs_list,
                    is_identity: false,
                    identity: Some(dir.join("device.pem")),
                }
            }
            PkiConfig::Identity(file) => Self {
                ca: file.clone(),
                certificate: file.clone(),
                key: file.clone(),
                list: beside(file),
                needs_list,
                is_identity: true,
                identity: Some(file.clone()),
            },
            PkiConfig::Files {
                ca,
                certificate,
                key,
            } => Self {
                ca: ca.clone(),
                certificate: certificate.clone(),
                key: key.clone(),
                list: list.map(Path::to_path_buf),
                needs_list,
                is_identity: false,
                identity: None,
            },
        })
    }

    /// Reads them.
    pub(crate) fn read(&self) -> Result<Pki, PkiError> {
        let mut authorities = certificates(&self.ca)?;
        let mut chain = certificates(&self.certificate)?;
        if self.is_identity {
            // The authority stands first in the file; it has no position in the chain that devices are shown.
            authorities.truncate(1);
            chain = chain.split_off(1);
            if chain.is_empty() {
                let cause = "there is an authority alone";
                return Err(content(&self.certificate, "certificate", cause));
            }
        }
        let pem = read(&self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|error| content(&self.key, "private key", &format!("{error:?}")))?;
        let lists = match &self.list {
            Some(file) if self.needs_list || file.exists() => {
                Some(Lists::read(file, &authorities)?)
            }
            _ => None,
        };
        Pki::new(authorities, (chain, key), lists, &self.ca)
    }

    /// Reads them where others are in force: what was revoked by a list must not come back by an older one, or by none.
    pub(crate) fn read_after(&self, before: &Pki) -> Result<Pki, PkiError> {
        let new = self.read()?;
        match (&before.lists, &new.lists, &self.list) {
            (Some(_), None, Some(file)) => Err(PkiError::Lists {
                file: file.clone(),
                cause: "it is gone; restore it, or start the engine again without it".to_owned(),
            }),
            (Some(old), Some(new_lists), Some(file)) => {
                new_lists.follows(old, file)?;
                Ok(new)
            }
            _ => Ok(new),
        }
    }

    /// How the files look now.
    pub(crate) fn stamps(&self) -> Stamps {
        let now = SystemTime::now();
        let mut is_unsure = false;
        let files = [&self.ca, &self.certificate, &self.key];
        let of = files.into_iter().chain(&self.list).map(|file| {
            let data = fs::metadata(file).ok()?;
            let written = data.modified().ok()?;
            is_unsure |= now.duration_since(written).is_ok_and(|age| age < UNSURE);
            Some((written, data.len(), data.ino()))
        });
        Stamps {
            of: of.collect(),
            is_unsure,
        }
    }
}

impl Stamps {
    /// Whether the files may be others than they were.
    pub(crate) fn may_differ(&self, before: &Self) -> bool {
        before.is_unsure || self.of != before.of
    }
}
