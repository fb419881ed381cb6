//! Revocation lists: read, and looked at before they are believed.
//!
//! A list that is wrong would shut every device out, and one that is missing would let everybody in. So a file is taken
//! only where each of its lists is signed by an authority that is believed, and each of these has one.

use std::fs;
use std::path::Path;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use super::{PkiError, content, io_error, read};

/// The list that an own authority makes, beside its other files.
pub(super) const LIST: &str = "crl.pem";

/// Bytes that a file of lists may have: about half a million certificates.
const BYTES_MAX: u64 = 32 << 20;

/// Serial numbers and since when each counts no more, in s.
pub(super) type Entries = Vec<(Vec<u8>, i64)>;

/// The lists of a file.
#[derive(Debug)]
pub(crate) struct Lists {
    ders: Vec<CertificateRevocationListDer<'static>>,
    known: Vec<Known>,
}

/// What a list says of itself.
#[derive(Debug)]
struct Known {
    /// Its authority's name, as bytes and for people.
    issuer: (Vec<u8>, String),
    issued_s: i64,
    due_s: Option<i64>,
    revoked: usize,
}

impl Lists {
    /// Reads a file of lists (PEM, or one in DER) of some authorities.
    pub(super) fn read(file: &Path, authorities: &[CertificateDer<'_>]) -> Result<Self, PkiError> {
        let bytes = fs::metadata(file).map_err(io_error("reading", file))?.len();
        if bytes > BYTES_MAX {
            return Err(wrong(
                file,
                format!("{bytes} bytes are more than {BYTES_MAX}"),
            ));
        }
        let text = read(file)?;
        let is_pem = text.windows(11).any(|part| part == b"-----BEGIN ");
        let ders = if is_pem {
            CertificateRevocationListDer::pem_slice_iter(&text)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| content(file, "revocation list", &format!("{error:?}")))?
        } else {
            vec![CertificateRevocationListDer::from(text)]
        };
        let known = ders.iter().map(|der| known(der, file, authorities));
        let known = known.collect::<Result<Vec<_>, _>>()?;
        for authority in authorities {
            let (_, ca) = X509Certificate::from_der(authority)
                .map_err(|error| content(file, "authority", &error.to_string()))?;
            let name = ca.subject().as_raw();
            if !known.iter().any(|list| list.issuer.0 == name) {
                let cause = format!(
                    "there is no list of the authority {}; add it, also where it revokes nothing",
                    ca.subject()
                );
                return Err(wrong(file, cause));
            }
        }
        Ok(Self { ders, known })
    }

    /// The lists as they are signed.
    pub(super) fn ders(&self) -> &[CertificateRevocationListDer<'static>] {
        &self.ders
    }

    /// Certificates that count no more.
    pub(crate) fn revoked(&self) -> usize {
        self.known.iter().map(|list| list.revoked).sum()
    }

    /// The first authority whose next list should be here by now.
    pub(crate) fn overdue(&self, now_s: i64) -> Option<&str> {
        let late = |list: &&Known| list.due_s.is_some_and(|due| due < now_s);
        let list = self.known.iter().find(late);
        list.map(|list| list.issuer.1.as_str())
    }

    /// Whether these may stand in for others of the same file: none is older than the one before.
    pub(super) fn follows(&self, before: &Self, file: &Path) -> Result<(), PkiError> {
        for old in &before.known {
            let new = self.known.iter().find(|new| new.issuer.0 == old.issuer.0);
            if let Some(new) = new
                && new.issued_s < old.issued_s
            {
                let cause = format!(
                    "the list of {} is older than the one in force; what was revoked since would be let in again",
                    old.issuer.1
                );
                return Err(wrong(file, cause));
            }
        }
        Ok(())
    }

    /// What the only list of a file revokes, and its number.
    pub(super) fn entries(&self, file: &Path) -> Result<(Entries, u64), PkiError> {
        let der = self.ders.first().filter(|_| self.ders.len() == 1);
        let der = der.ok_or_else(|| wrong(file, "it holds other than one list".to_owned()))?;
        let list = parsed(der, file)?;
        let number = list.crl_number().map_or(Some(0), |n| u64::try_from(n).ok());
        let number = number.ok_or_else(|| wrong(file, "its number is out of range".to_owned()))?;
        let revoked = list.iter_revoked_certificates();
        let entries = revoked.map(|one| {
            let serial = bare(one.raw_serial()).to_vec();
            (serial, one.revocation_date.timestamp())
        });
        Ok((entries.collect(), number))
    }
}

fn known(
    der: &CertificateRevocationListDer<'_>,
    file: &Path,
    authorities: &[CertificateDer<'_>],
) -> Result<Known, PkiError> {
    let list = parsed(der, file)?;
    let mut signers = authorities.iter().filter_map(|der| {
        let (_, ca) = X509Certificate::from_der(der).ok()?;
        (ca.subject().as_raw() == list.issuer().as_raw()).then_some(ca)
    });
    let Some(signer) = signers.next() else {
        let cause = format!("{} is no authority that is believed here", list.issuer());
        return Err(wrong(file, cause));
    };
    let is_signed = is_signed(&list, &signer) || signers.any(|ca| is_signed(&list, &ca));
    if !is_signed {
        let cause = format!("the list of {} is not signed by it", list.issuer());
        return Err(wrong(file, cause));
    }
    Ok(Known {
        issuer: (list.issuer().as_raw().to_vec(), list.issuer().to_string()),
        issued_s: list.last_update().timestamp(),
        due_s: list.next_update().map(|time| time.timestamp()),
        revoked: list.iter_revoked_certificates().count(),
    })
}

fn parsed<'a>(
    der: &'a CertificateRevocationListDer<'_>,
    file: &Path,
) -> Result<CertificateRevocationList<'a>, PkiError> {
    let (rest, list) = CertificateRevocationList::from_der(der)
        .map_err(|error| content(file, "revocation list", &error.to_string()))?;
    if !rest.is_empty() {
        return Err(content(file, "revocation list", "there is more behind it"));
    }
    Ok(list)
}

// With any algorithm that is believed at all: one that does not fit key and signature fails.
fn is_signed(list: &CertificateRevocationList<'_>, signer: &X509Certificate<'_>) -> bool {
    let provider = aws_lc_rs::default_provider();
    let key = &signer.public_key().subject_public_key.data;
    let signature = &list.signature_value.data;
    let signed = list.tbs_cert_list.as_ref();
    let mut all = provider.signature_verification_algorithms.all.iter();
    all.any(|algorithm| algorithm.verify_signature(key, signed, signature).is_ok())
}

/// A serial number without the zeros before it.
pub(super) fn bare(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    let zeros = zeros.min(serial.len().saturating_sub(1));
    serial.get(zeros..).unwrap_or(serial)
}

fn wrong(file: &Path, cause: String) -> PkiError {
    PkiError::Lists {
        file: file.to_path_buf(),
        cause,
    }
}
