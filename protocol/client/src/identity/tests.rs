use super::*;

fn pem_of_a_device() -> String {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_cert = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = rcgen::CertificateParams::new(vec!["device".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    format!("{}{}{}", ca_cert.pem(), cert.pem(), key.serialize_pem())
}

#[test]
fn one_pem_file_with_ca_certificate_and_key_makes_a_client() {
    let identity = Identity::from_pem(pem_of_a_device().as_bytes()).unwrap();
    assert!(identity.client_config(&Tuning::default()).is_ok());
}

#[test]
fn an_identity_without_its_ca_says_what_is_missing() {
    let text = pem_of_a_device();
    let second = text.match_indices("-----BEGIN").nth(1).unwrap().0;
    let error = Identity::from_pem(&text.as_bytes()[second..]).unwrap_err();
    assert!(error.to_string().contains("holds 1 certificates"));
}

#[test]
fn an_identity_without_a_key_is_refused() {
    let text = pem_of_a_device();
    let key = text.find("-----BEGIN PRIVATE").unwrap();
    assert!(matches!(
        Identity::from_pem(&text.as_bytes()[..key]),
        Err(IdentityError::Pem(_))
    ));
}
