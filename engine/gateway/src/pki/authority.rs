//! The own authority of an engine for development and single stores: it makes identities, and takes them back.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, RevokedCertParams, SanType, SerialNumber,
};
use rustix::fs::{FlockOperation, flock};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;

use super::lists::LIST;
use super::lists::{self, Lists};
use super::{
    Authorisation, NAMES_MAX, PkiError, certificates, content, io_error, read, sync_dir,
    write_secret,
};

/// The certificate of the authority, in its folder.
const CERTIFICATE: &str = "ca.pem";
/// Its key.
const KEY: &str = "ca-key.pem";
/// Seconds of a day.
const DAY_S: i64 = 86_400;
/// Days after which a list should have been rebuilt. An own authority makes one with each revocation alone.
const LIST_DAYS: i64 = 3_650;

/// The own authority of a data folder, where its key is.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    key: KeyPair,
    /// Held as long as it lives: two at a time would make lists that each lack what the other revoked.
    _alone: fs::File,
}

/// An identity that was made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Issued {
    /// Serial number of its certificate, in hexadecimal digits.
    pub serial: String,
    /// When it ends, in s since 1970-01-01 UTC.
    pub ends_s: i64,
}

/// A certificate that counts no more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Revocation {
    /// Its serial number, in hexadecimal digits.
    pub serial: String,
    /// Since when, in s since 1970-01-01 UTC.
    pub since_s: i64,
}

impl Authority {
    /// Opens the authority that `pki.dev` made in a data folder. An engine may have the folder open.
    ///
    /// # Errors
    /// [`PkiError`] when there is none, or its key is elsewhere.
    pub fn open(data_dir: &Path) -> Result<Self, PkiError> {
        let dir = data_dir.join("pki");
        let path = dir.join(KEY);
        if !path.exists() {
            return Err(PkiError::Authority(format!(
                "{} is not there: only an authority that `tillstream serve --dev` made, and where it made it, can issue and \
                 revoke here. For another one, put its own revocation list where pki.crl says",
                path.display()
            )));
        }
        let alone = fs::File::open(&path).map_err(io_error("opening", &path))?;
        flock(&alone, FlockOperation::LockExclusive)
            .map_err(|cause| io_error("locking", &path)(cause.into()))?;
        let pem = String::from_utf8_lossy(&read(&path)?).into_owned();
        let key = KeyPair::from_pem(&pem)
            .map_err(|error| content(&path, "private key", &error.to_string()))?;
        Ok(Self {
            dir,
            key,
            _alone: alone,
        })
    }

    /// Makes an identity file (authority, certificate, key) that speaks for some names, like `till://7/3`.
    ///
    /// # Errors
    /// [`PkiError`] when a name is none, or the file is there already or cannot be written.
    pub fn issue(&self, names: &[String], seconds: u32, file: &Path) -> Result<Issued, PkiError> {
        let mut device = params("tillstream device");
        if names.is_empty() || names.len() > NAMES_MAX {
            let text = format!("a certificate speaks for 1 to {NAMES_MAX} names");
            return Err(PkiError::Authority(text));
        }
        for name in names {
            if !Authorisation::understands(name) {
                return Err(PkiError::Authority(format!(
                    "{name} names no terminal: write till://STORE/TILL, till://STORE/* or till://*"
                )));
            }
            device
                .subject_alt_names
                .push(SanType::URI(name.as_str().try_into()?));
        }
        if file.exists() {
            let text = format!("{} is there already; it stays as it is", file.display());
            return Err(PkiError::Authority(text));
        }
        let now = super::now_s();
        let ends_s = now + i64::from(seconds);
        // A clock that is a little behind must not refuse it.
        device.not_before = time(now - DAY_S)?.to_datetime();
        device.not_after = time(ends_s)?.to_datetime();
        device.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let ca = authority();
        let made = device.signed_by(&key, &Issuer::from_params(&ca, &self.key))?;
        let path = self.dir.join(CERTIFICATE);
        let ca_pem = String::from_utf8_lossy(&read(&path)?).into_owned();
        let text = format!("{ca_pem}{}{}", made.pem(), key.serialize_pem());
        write_secret(file, text.as_bytes())?;
        Ok(Issued {
            serial: serial_of(made.der(), file)?,
            ends_s,
        })
    }

    /// The serial number of the device's certificate in an identity or certificate file.
    ///
    /// # Errors
    /// [`PkiError`] when there is none of this authority in it.
    pub fn serial(&self, file: &Path) -> Result<String, PkiError> {
        let own = certificates(&self.dir.join(CERTIFICATE))?;
        let mut others = certificates(file)?.into_iter();
        let device = others.find(|one| !own.contains(one));
        let device = device.ok_or_else(|| {
            content(
                file,
                "device's certificate",
                "it has that of the authority alone",
            )
        })?;
        let (_, parsed) = X509Certificate::from_der(&device)
            .map_err(|error| content(file, "certificate", &error.to_string()))?;
        let is_own = own.first().is_some_and(|ca| {
            X509Certificate::from_der(ca)
                .is_ok_and(|(_, ca)| ca.subject().as_raw() == parsed.issuer().as_raw())
        });
        if !is_own {
            return Err(content(
                file,
                "device's certificate",
                "another authority has signed it",
            ));
        }
        serial_of(&device, file)
    }

    /// Revokes a certificate by its serial number: writes the list again. A running engine reads it within seconds. Gives
    /// whether that is news.
    ///
    /// # Errors
    /// [`PkiError`] when the number is none, or the list cannot be read or written; the old one is there then.
    pub fn revoke(&self, serial: &str) -> Result<bool, PkiError> {
        let digits: String = serial.chars().filter(|c| *c != ':').collect();
        let bytes = bytes_of(&digits).ok_or_else(|| {
            PkiError::Authority(format!(
                "{serial} is no serial number: it has 1 to 20 bytes in hexadecimal digits"
            ))
        })?;
        let file = self.dir.join(LIST);
        let (mut all, number) = self.entries()?;
        if all.iter().any(|(known, _)| *known == bytes) {
            return Ok(false);
        }
        let now = super::now_s();
        all.push((bytes, now));
        let mut revoked = Vec::with_capacity(all.len());
        for (serial, since) in all {
            revoked.push(RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: time(since)?.to_datetime(),
                reason_code: None,
                invalidity_date: None,
            });
        }
        let list = CertificateRevocationListParams {
            this_update: time(now)?.to_datetime(),
            next_update: time(now + LIST_DAYS * DAY_S)?.to_datetime(),
            crl_number: SerialNumber::from(number + 1),
            issuing_distribution_point: None,
            revoked_certs: revoked,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let ca = authority();
        let pem = list
            .signed_by(&Issuer::from_params(&ca, &self.key))?
            .pem()?;
        // Whole or not at all: an engine may read it now.
        let new = file.with_extension("new");
        write_secret(&new, pem.as_bytes())?;
        fs::rename(&new, &file).map_err(io_error("renaming", &new))?;
        sync_dir(&self.dir)?;
        Ok(true)
    }

    /// What is revoked, in the order in which it was.
    ///
    /// # Errors
    /// [`PkiError`] when the list cannot be read.
    pub fn revoked(&self) -> Result<Vec<Revocation>, PkiError> {
        let (all, _) = self.entries()?;
        let shown = all.into_iter().map(|(serial, since_s)| Revocation {
            serial: hex(&serial),
            since_s,
        });
        Ok(shown.collect())
    }

    // Serial numbers with their times, and the number of the list.
    fn entries(&self) -> Result<(lists::Entries, u64), PkiError> {
        let file = self.dir.join(LIST);
        if !file.exists() {
            return Ok((lists::Entries::new(), 0));
        }
        let authorities = certificates(&self.dir.join(CERTIFICATE))?;
        Lists::read(&file, &authorities)?.entries(&file)
    }
}

fn serial_of(der: &CertificateDer<'_>, file: &Path) -> Result<String, PkiError> {
    let (_, parsed) = X509Certificate::from_der(der)
        .map_err(|error| content(file, "certificate", &error.to_string()))?;
    Ok(hex(lists::bare(parsed.raw_serial())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

// Leading zeros are no part of a number.
fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let even = format!("{}{digits}", if digits.len() % 2 == 1 { "0" } else { "" });
    let pairs = even.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        let is_hex = pair.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
    });
    let bytes = pairs.collect::<Option<Vec<u8>>>()?;
    let bare = lists::bare(&bytes).to_vec();
    (!digits.is_empty() && bare.len() <= 20).then_some(bare)
}

fn time(seconds: i64) -> Result<ASN1Time, PkiError> {
    ASN1Time::from_timestamp(seconds)
        .map_err(|error| PkiError::Authority(format!("a time that cannot be written: {error}")))
}

// An authority, a server and a device that is authorised for every terminal. All or nothing: the folder is renamed.
pub(super) fn make(dir: &Path) -> Result<(), PkiError> {
    let new = dir.with_extension("new");
    if new.exists() {
        fs::remove_dir_all(&new).map_err(io_error("removing", &new))?;
    }
    fs::create_dir_all(&new).map_err(io_error("making", &new))?;
    let ca_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let ca = authority();
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::from_params(&ca, &ca_key);

    let names = [
        SanType::DnsName("tillstream".try_into()?),
        SanType::DnsName("localhost".try_into()?),
        SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ];
    let mut server = params("tillstream");
    server.subject_alt_names = names.to_vec();
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let server_pem = server.signed_by(&server_key, &issuer)?.pem();

    // It may also stand for an engine: other engines of a cluster have no part in this authority but this file.
    let mut device = params("every till");
    device.subject_alt_names = names.to_vec();
    let every_till = SanType::URI("till://*".try_into()?);
    device.subject_alt_names.push(every_till);
    device.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    let device_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let device_pem = device.signed_by(&device_key, &issuer)?.pem();

    let server_text = server_pem + &server_key.serialize_pem();
    let device_text = format!("{ca_pem}{device_pem}{}", device_key.serialize_pem());
    write_secret(&new.join(CERTIFICATE), ca_pem.as_bytes())?;
    write_secret(&new.join(KEY), ca_key.serialize_pem().as_bytes())?;
    write_secret(&new.join("server.pem"), server_text.as_bytes())?;
    write_secret(&new.join("device.pem"), device_text.as_bytes())?;
    sync_dir(&new)?;
    fs::rename(&new, dir).map_err(io_error("renaming", &new))?;
    dir.parent().map_or(Ok(()), sync_dir)
}

fn authority() -> CertificateParams {
    let mut ca = params("tillstream authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2049, 12, 31);
    params
}
