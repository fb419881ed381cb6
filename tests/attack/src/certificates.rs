//! Certificates that count for nothing, or no more.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use till_client::{Identity, SERVER_NAME, Tuning};
use till_gateway::Authority;
use till_tests::Home;
use till_tests::hostile::{Line, terminal};
use tokio::time::timeout;

use crate::crowd::{Crowd, endpoints, lost};
use crate::floods::STORE;
use crate::ground::Ground;
use crate::report::Attack;

/// Longest time in which a revocation must have closed a connection.
const SECONDS_MAX: u64 = 10;
/// Connections that are open when their certificate is revoked.
const LIVE: usize = 50;
/// How long a certificate counts in this run, in s.
const LONG_S: u32 = 86_400;

/// Each kind of certificate, and what it is told.
pub(crate) fn attack(ground: &Ground, crowd: &Crowd) -> Result<Attack> {
    let begun = Instant::now();
    let mut attack = Attack::named("certificates");
    ground.reset_peak();
    let cpu = ground.cpu_s()?;
    let foreign = Home::new()?;
    crowd.runtime.block_on(all(ground, &foreign, &mut attack))?;
    attack.engine_cpu_s = ground.cpu_s()? - cpu;
    attack.engine_peak_mib = ground.engine.kib("VmHWM:")? >> 10;
    ground.must_be_well(&mut attack);
    attack.elapsed_s = begun.elapsed().as_secs_f64();
    Ok(attack.judged())
}

async fn all(ground: &Ground, foreign: &Home, attack: &mut Attack) -> Result<()> {
    let own = Authority::open(&ground.data)?;
    let expired = issue(&own, &ground.data, "expired", 1)?;
    let revoked = issue(&own, &ground.data, "revoked", LONG_S)?;
    let nobody = bare(&ground.engine.identity)?;
    let other = other_authority(foreign, ground)?;
    // An expired one is told apart once its second is over.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let config = |file: &Path| -> Result<ClientConfig> {
        Ok(Identity::read(file)?.client_config(&Tuning::default())?)
    };
    live(ground, (&own, &revoked), attack).await?;
    for (what, config, alert) in [
        ("none", nobody, "alert 116"),
        ("expired", config(&expired)?, "alert 45"),
        ("revoked", config(&revoked)?, "alert 44"),
        // All own authorities have one name: it is the signature that is not believed.
        ("of another authority", config(&other)?, "alert 51"),
    ] {
        let told = refused(ground, config).await?;
        attack.attempts += 1;
        attack.must(told == alert, || format!("{what}: {told}, not {alert}"));
        attack.answers.insert(format!("{what}: {told}"), 1);
    }
    Ok(())
}

/// Connections that work while their certificate is revoked.
async fn live(
    ground: &Ground,
    (own, revoked): (&Authority, &Path),
    attack: &mut Attack,
) -> Result<()> {
    let endpoints = endpoints(ground)?;
    let config = Identity::read(revoked)?.client_config(&Tuning::default())?;
    let mut lines: Vec<(Connection, Line)> = Vec::new();
    for (till, endpoint) in (1..).zip(endpoints.iter().cycle().take(LIVE)) {
        let connecting = endpoint.connect_with(config.clone(), ground.engine.quic, SERVER_NAME)?;
        let connection = connecting.await?;
        let mut line = Line::accepted(&connection, terminal(STORE, till)?).await?;
        line.round_trip().await?;
        lines.push((connection, line));
    }
    attack.connections = u32::try_from(lines.len())?;
    let since = Instant::now();
    ensure!(own.revoke(&own.serial(revoked)?)?, "it was revoked before");
    for (connection, _) in &lines {
        let longest = Duration::from_secs(SECONDS_MAX);
        attack.attempts += 1;
        let told = match timeout(longest, connection.closed()).await {
            Ok(error) => lost(&error),
            Err(_) => "still open".to_owned(),
        };
        attack.must(told == "closed 3", || format!("a live connection: {told}"));
        *attack.answers.entry(format!("live: {told}")).or_default() += 1;
    }
    let took = u64::try_from(since.elapsed().as_millis())?;
    attack
        .answers
        .insert("ms until all live ones were closed".to_owned(), took);
    Ok(())
}

async fn refused(ground: &Ground, config: ClientConfig) -> Result<String> {
    let endpoints = endpoints(ground)?;
    let endpoint = endpoints.first().context("no endpoint")?;
    let connecting = endpoint.connect_with(config, ground.engine.quic, SERVER_NAME)?;
    // The engine looks at the certificate when the device believes itself connected.
    let told: ConnectionError = match connecting.await {
        Ok(connection) => {
            let closed = timeout(Duration::from_secs(SECONDS_MAX), connection.closed()).await;
            closed.context("it is let in")?
        }
        Err(error) => error,
    };
    Ok(lost(&told))
}

fn issue(own: &Authority, dir: &Path, name: &str, seconds: u32) -> Result<PathBuf> {
    let file = dir.join(format!("{name}.pem"));
    own.issue(&["till://*".to_owned()], seconds, &file)?;
    Ok(file)
}

/// Trusts the engine, and shows nothing.
fn bare(identity: &Path) -> Result<ClientConfig> {
    let pem = std::fs::read(identity)?;
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(&pem)
        .ok()
        .context("no authority")?;
    roots.add(ca)?;
    let mut tls =
        rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
    tls.alpn_protocols = vec![till_client::ALPN.to_vec()];
    Ok(ClientConfig::new(Arc::new(QuicClientConfig::try_from(
        tls,
    )?)))
}

/// A device of another authority that trusts this engine.
fn other_authority(foreign: &Home, ground: &Ground) -> Result<PathBuf> {
    foreign.start()?.stop()?;
    let file = issue(
        &Authority::open(&foreign.data)?,
        &foreign.data,
        "other",
        LONG_S,
    )?;
    let ca = |data: &Path| std::fs::read_to_string(data.join("pki/ca.pem"));
    let text = std::fs::read_to_string(&file)?;
    let text = text.replace(&ca(&foreign.data)?, &ca(&ground.data)?);
    std::fs::write(&file, text)?;
    Ok(file)
}
