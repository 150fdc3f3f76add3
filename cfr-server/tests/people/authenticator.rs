//! An authenticator in software, as browsers hand its answers on (WebAuthn level 3): ES256 keys, no attestation.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Where the pages are that ask it.
pub(crate) const ORIGIN: &str = "https://ai.example.org";
const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;
const HAS_KEY: u8 = 0x40;
/// A map of three in CBOR (RFC 8949).
const MAP_OF_THREE: u8 = 0xa3;

/// A device with keys.
#[derive(Debug)]
pub(crate) struct Authenticator {
    /// Where it believes to be.
    pub(crate) origin: String,
    /// Whether it looked who holds it.
    pub(crate) verified: bool,
    /// What it says next; it counts up when it is not 0.
    pub(crate) counter: u32,
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    id: Vec<u8>,
    handle: String,
    pair: EcdsaKeyPair,
}

impl Authenticator {
    pub(crate) fn new() -> Self {
        Self { origin: ORIGIN.into(), verified: true, counter: 0, keys: Vec::new() }
    }

    /// Makes a key, as `navigator.credentials.create` does with these options.
    pub(crate) fn make(&mut self, options: &Value) -> Value {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random).expect("the same key");
        let id = rand::random::<[u8; 16]>().to_vec();
        let mut data = self.data(options["rp"]["id"].as_str().expect("whose key"), HAS_KEY);
        data.extend([0; 16]); // which model it is stays untold
        data.extend(u16::try_from(id.len()).expect("short").to_be_bytes());
        data.extend(&id);
        data.extend(cose(pair.public_key().as_ref()));
        let client = self.client("webauthn.create", options);
        let handle = options["user"]["id"].as_str().expect("for whom").to_owned();
        self.keys.push(Key { id: id.clone(), handle, pair });
        let response = json!({ "clientDataJSON": encode(&client), "attestationObject": encode(&unattested(&data)) });
        credential(&id, &response)
    }

    /// Answers, as `navigator.credentials.get` does with these options: with a key that is asked for, else with the last.
    pub(crate) fn answer(&mut self, options: &Value) -> Value {
        let data = self.data(options["rpId"].as_str().expect("whose key"), 0);
        let client = self.client("webauthn.get", options);
        let asked: Vec<&str> = options["allowCredentials"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|one| one["id"].as_str())
            .collect();
        let found = self.keys.iter().rfind(|key| asked.is_empty() || asked.contains(&&*encode(&key.id)));
        let key = found.or(self.keys.last()).expect("a key");
        let signed = [data.as_slice(), Sha256::digest(&client).as_slice()].concat();
        let signature = key.pair.sign(&SystemRandom::new(), &signed).expect("signed");
        let response = json!({
            "clientDataJSON": encode(&client),
            "authenticatorData": encode(&data),
            "signature": encode(signature.as_ref()),
            "userHandle": key.handle,
        });
        credential(&key.id, &response)
    }

    fn data(&mut self, party: &str, more: u8) -> Vec<u8> {
        let flags = USER_PRESENT | if self.verified { USER_VERIFIED } else { 0 } | more;
        let mut data = Sha256::digest(party).to_vec();
        data.push(flags);
        data.extend(self.counter.to_be_bytes());
        self.counter += u32::from(self.counter > 0);
        data
    }

    fn client(&self, kind: &str, options: &Value) -> Vec<u8> {
        let (challenge, origin) = (&options["challenge"], &self.origin);
        json!({ "type": kind, "challenge": challenge, "origin": origin, "crossOrigin": false }).to_string().into_bytes()
    }
}

fn credential(id: &[u8], response: &Value) -> Value {
    json!({ "id": encode(id), "rawId": encode(id), "type": "public-key", "response": response, "clientExtensionResults": {} })
}

/// A public key (RFC 9053): two coordinates on P-256.
fn cose(point: &[u8]) -> Vec<u8> {
    let (x, y) = point[1..].split_at(32);
    [&[0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20], x, &[0x22, 0x58, 0x20], y].concat()
}

/// `{"fmt": "none", "attStmt": {}, "authData": …}` in CBOR.
fn unattested(data: &[u8]) -> Vec<u8> {
    let length = u8::try_from(data.len()).expect("short");
    [
        &[MAP_OF_THREE, 0x63],
        "fmt".as_bytes(),
        &[0x64],
        b"none",
        &[0x67],
        b"attStmt",
        &[0xa0, 0x68],
        b"authData",
        &[0x58, length],
        data,
    ]
    .concat()
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
