use super::*;

fn id(name: &str) -> ObjectRef {
    ObjectRef::new("team", name)
}

fn key(byte: u8) -> SealingKey {
    SealingKey::new(&[byte; 32]).unwrap()
}

fn sealed() -> Sealed {
    seal(&Secret::new("sk-canary".to_owned()), &id("key"), &id("host"), "one", &key(1)).unwrap()
}

#[test]
fn what_was_sealed_opens_with_the_same_key_alone() {
    assert_eq!(open(&sealed(), &id("key"), &key(1)).unwrap().expose(), "sk-canary");
    let wrong = open(&sealed(), &id("key"), &key(2)).unwrap_err();
    assert_eq!(wrong, OpenError::Wrapped { key_id: "one".into() });
}

#[test]
fn fields_have_the_lengths_that_manifests_are_checked_for() {
    let sealed = sealed();
    assert_eq!((sealed.wrapped_key.len(), sealed.nonce.len(), sealed.ciphertext.len()), (80, 16, 36));
    let longest = Secret::new("x".repeat(MAX_VALUE_BYTES));
    assert_eq!(seal(&longest, &id("key"), &id("host"), "one", &key(1)).unwrap().ciphertext.len(), 8192);
    let longer = Secret::new("x".repeat(MAX_VALUE_BYTES + 1));
    assert_eq!(seal(&longer, &id("key"), &id("host"), "one", &key(1)), Err(SealError::Long(MAX_VALUE_BYTES + 1)));
}

#[test]
fn the_same_credential_sealed_twice_has_nothing_in_common() {
    let (one, two) = (sealed(), sealed());
    assert!(one.wrapped_key != two.wrapped_key && one.nonce != two.nonce && one.ciphertext != two.ciphertext);
}

#[test]
fn a_single_altered_bit_of_any_field_is_seen() {
    let altered = |text: &str, bit: usize| {
        let mut bytes = BASE64.decode(text.as_bytes()).unwrap();
        bytes[bit / 8] ^= 1 << (bit % 8);
        BASE64.encode(&bytes)
    };
    let whole = sealed();
    let refused = |sealed: Sealed| open(&sealed, &id("key"), &key(1)).unwrap_err();
    for bit in 0..60 * 8 {
        let wrapped_key = altered(&whole.wrapped_key, bit);
        let one = Sealed { wrapped_key, ..whole.clone() };
        assert_eq!(refused(one), OpenError::Wrapped { key_id: "one".into() });
    }
    for bit in 0..12 * 8 {
        assert_eq!(refused(Sealed { nonce: altered(&whole.nonce, bit), ..whole.clone() }), OpenError::Ciphertext);
    }
    for bit in 0..(9 + 16) * 8 {
        let ciphertext = altered(&whole.ciphertext, bit);
        assert_eq!(refused(Sealed { ciphertext, ..whole.clone() }), OpenError::Ciphertext);
    }
    // The same bytes under another name: the name is bound too.
    assert_eq!(refused(Sealed { key_id: "two".into(), ..whole }), OpenError::Wrapped { key_id: "two".into() });
}

#[test]
fn a_sealed_value_opens_for_its_host_key_and_host_alone() {
    let moved = |host_key: &ObjectRef, host: ObjectRef| open(&Sealed { host, ..sealed() }, host_key, &key(1));
    moved(&id("key"), id("host")).unwrap();
    moved(&id("other"), id("host")).unwrap_err();
    moved(&id("key"), id("other")).unwrap_err();
    moved(&ObjectRef::new("other", "key"), id("host")).unwrap_err();
    moved(&id("key"), ObjectRef::new("other", "host")).unwrap_err();
}

#[test]
fn fields_of_two_sealed_values_cannot_be_mixed() {
    let (one, two) = (sealed(), sealed());
    let opened = |sealed: Sealed| open(&sealed, &id("key"), &key(1));
    assert_eq!(opened(Sealed { wrapped_key: two.wrapped_key, ..one.clone() }), Err(OpenError::Ciphertext));
    assert_eq!(opened(Sealed { nonce: two.nonce, ..one.clone() }), Err(OpenError::Ciphertext));
    assert_eq!(opened(Sealed { ciphertext: two.ciphertext, ..one }), Err(OpenError::Ciphertext));
}

#[test]
fn a_wrapped_again_value_opens_with_the_new_key_alone_and_keeps_its_ciphertext() {
    let before = sealed();
    let after = rewrap(&before, &id("key"), &key(1), "two", &key(2)).unwrap();
    assert_eq!((&after.ciphertext, &after.nonce), (&before.ciphertext, &before.nonce));
    assert_eq!(after.key_id, "two");
    assert_eq!(open(&after, &id("key"), &key(2)).unwrap().expose(), "sk-canary");
    open(&after, &id("key"), &key(1)).unwrap_err();
    rewrap(&after, &id("key"), &key(1), "three", &key(3)).unwrap_err();
}

#[test]
fn a_field_that_is_no_base64_or_too_short_is_named() {
    let whole = sealed();
    let refused = |sealed: Sealed| open(&sealed, &id("key"), &key(1)).unwrap_err().to_string();
    assert!(refused(Sealed { wrapped_key: "AAAA".into(), ..whole.clone() }).contains("`wrappedKey`"));
    assert!(refused(Sealed { nonce: "no base64 at all".into(), ..whole.clone() }).contains("`nonce`"));
    assert!(refused(Sealed { ciphertext: "AAA".into(), ..whole.clone() }).contains("`ciphertext`"));
    assert_eq!(refused(Sealed { ciphertext: String::new(), ..whole }), OpenError::Ciphertext.to_string());
}

/// Made by the program on docs/sealed-keys.md, with another library.
#[test]
fn what_another_program_sealed_opens() {
    let kek: Vec<u8> = (0..32).collect();
    let sealed = Sealed {
        host: ObjectRef::new("platform", "anthropic"),
        key_id: "2026-a".into(),
        wrapped_key: "MfvilbFPsgrIluK+pBAJYbiWthzQcjPn15zSKwUs/y0N0kAy0X/DIGrGr9zpqL3aawyYUHIXXX09oYCt".into(),
        nonce: "Q8M+NEB9fjkH/tXH".into(),
        ciphertext: "Ikf+78FSNVD8Lheu7WGplezXGu2MwrrcvHRkgsO+LR5PdXQ=".into(),
    };
    let opened = open(&sealed, &ObjectRef::new("platform", "anthropic-main"), &SealingKey::new(&kek).unwrap());
    assert_eq!(opened.unwrap().expose(), "sk-sealed-elsewhere");
}

#[test]
fn neither_keys_nor_credentials_are_shown() {
    let shown = format!("{:?} {:?}", SealingKey::new(b"canary-canary-canary-canary-cana"), sealed());
    assert!(!shown.contains("canary") && !shown.contains("99, 97"), "{shown}");
    assert!(SealingKey::new(b"canary").unwrap_err().contains("it has 6 bytes"));
}
