use bifrust_model::DEFAULT_TENANT;
use proptest::prelude::*;

use super::message::from_base64;
use super::*;

/// The exchange of RFC 7677 section 3.
const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const OURS: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const FINAL: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

fn rfc_verifier() -> ScramVerifier {
    let salt = from_base64("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    ScramVerifier::derive(b"pencil", &salt, 4096)
}

#[test]
fn the_exchange_of_the_rfc_succeeds() {
    let named = first(FIRST, None).unwrap();
    assert_eq!(
        (named.tenant.as_str(), &*named.user),
        (DEFAULT_TENANT, "user")
    );
    let (challenge, pending) = named.challenge(&rfc_verifier(), OURS);
    assert_eq!(
        challenge,
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
         s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let pending = Pending::decode(&pending.encode()).unwrap();
    assert_eq!(
        pending.finish(FINAL, &rfc_verifier()).unwrap(),
        "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    );
}

#[test]
fn another_password_nonce_or_proof_fails() {
    let pending = |ours| {
        first(FIRST, None)
            .unwrap()
            .challenge(&rfc_verifier(), ours)
            .1
    };
    let other = ScramVerifier::derive(b"pencils", &[1; 16], 4096);
    let wrong = Err(ScramError::Wrong);
    assert_eq!(pending(OURS).finish(FINAL, &other), wrong);
    assert_eq!(pending("other").finish(FINAL, &rfc_verifier()), wrong);
    let nobody = ScramVerifier::of_nobody(&[7; 32], "default", "user");
    assert_eq!(pending(OURS).finish(FINAL, &nobody), wrong);
    for at in 0..FINAL.len() {
        let mut changed = FINAL.to_vec();
        changed[at] ^= 1;
        assert!(pending(OURS).finish(&changed, &rfc_verifier()).is_err());
    }
}

#[test]
fn names_choose_the_tenant_and_are_unescaped() {
    let named = first(b"y,,n=acme/a=2Cb=3Dc,r=x", None).unwrap();
    assert_eq!((named.tenant.as_str(), &*named.user), ("acme", "a,b=c"));
    let fixed = TenantName::new("fixed").unwrap();
    let named = first(b"n,,n=acme/bob,r=x", Some(&fixed)).unwrap();
    assert_eq!((named.tenant.as_str(), &*named.user), ("fixed", "acme/bob"));
}

#[test]
fn what_is_not_served_is_refused() {
    let refused = |data: &[u8]| first(data, None).err();
    assert_eq!(
        refused(b"p=tls-unique,,n=u,r=x"),
        Some(ScramError::ChannelBinding)
    );
    for bad in [
        &b""[..],
        b"n,,",
        b"n,,n=u",
        b"n,,n=,r=x",
        b"n,,n=u,r=",
        b"n,a=other,n=u,r=x",
        b"n,,m=ext,n=u,r=x",
        b"n,,n=a=2Db,r=x",
        b"n,,n=u,r=\0",
        b"n,,n=u,r=\xff",
        &[b'n'; MESSAGE_BYTES_MAX + 1],
    ] {
        assert_eq!(refused(bad), Some(ScramError::Malformed), "{bad:?}");
    }
}

#[test]
fn a_verifier_is_read_as_it_is_written() {
    let verifier = ScramVerifier::new(b"secret").unwrap();
    assert_eq!(verifier.to_string().parse(), Ok(verifier.clone()));
    let text = verifier.to_string();
    for bad in [
        text.replace("256$", "1$"),
        text.replace("32768", "4095"),
        text.replace("32768", "99999999"),
        text[..text.len() - 4].to_owned(),
        String::new(),
    ] {
        assert_eq!(bad.parse::<ScramVerifier>(), Err(VerifierError), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_bytes_of_a_client_do_harm(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = first(&data, None);
        let _ = Pending::decode(&data);
        let (_, pending) = first(FIRST, None).unwrap().challenge(&rfc_verifier(), OURS);
        prop_assert!(pending.finish(&data, &rfc_verifier()).is_err());
    }
}
