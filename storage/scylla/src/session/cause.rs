//! What keeps a node from taking a session, in words of this program's settings and not of the driver's.

use std::io;

use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, MetadataError,
    NewSessionError,
};

use crate::config::ScyllaConfig;

/// Why a session was not opened.
pub(super) fn words(config: &ScyllaConfig, error: &NewSessionError) -> String {
    let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(
        ConnectionPoolError::Broken {
            last_connection_error: last,
        },
    )) = error
    else {
        return error.to_string();
    };
    match last {
        ConnectionError::ConnectTimeout => {
            "takes a connection, and then does not answer in time".to_owned()
        }
        ConnectionError::IoError(error) => tls(config, error),
        ConnectionError::ConnectionSetupRequestError(failed) => match &failed.error {
            ConnectionSetupRequestErrorKind::MissingAuthentication => {
                "asks for a user and a password, and none is given".to_owned()
            }
            ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, said) => {
                let user = config.credentials.as_ref().map_or("", |one| one.user());
                format!("does not let user `{user}` in with this password: {said}")
            }
            other => other.to_string(),
        },
        other => other.to_string(),
    }
}

fn tls(config: &ScyllaConfig, error: &io::Error) -> String {
    let inner = error.get_ref();
    let of_tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let file = config.ca_file.as_deref().unwrap_or_else(|| "".as_ref());
    let file = file.display();
    match of_tls {
        Some(rustls::Error::InvalidCertificate(cause)) => format!(
            "shows a certificate that does not hold under the authority {file} and for this address: {cause}"
        ),
        Some(rustls::Error::InvalidMessage(_)) => {
            "does not speak TLS; an authority is given, so that nothing else is spoken".to_owned()
        }
        Some(_) | None => error.to_string(),
    }
}
