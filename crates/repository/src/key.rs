//! Key files: the master key of a repository, sealed under a key that scrypt makes of a password.
//! A key file is plain JSON; anybody who can write one can ask for absurd work, so that its
//! parameters are checked before anything is allocated.

use std::fmt;
use std::time::Duration;

use alidade_entity::{Clock, Cx};
use alidade_model::Time;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::crypto::{self, MasterKey};
use crate::decode::{DecodeError, Decoded};
use crate::gojson::Object;
use crate::{Result, time};

/// Longest key file that is read; stock ones have about 460 bytes.
pub const MAX_LEN: usize = 64 << 10;
/// Bytes of the salt; restic refuses any other number.
pub const SALT_LEN: usize = 64;

/// How much work it is to derive a key from a password: scrypt's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kdf {
    /// Cost: a power of two, at least 2. Memory is `128 * n * r` bytes.
    pub n: u32,
    /// Block size.
    pub r: u32,
    /// How often it is done.
    pub p: u32,
}

impl Kdf {
    /// For generated passwords of 256 bits, which need no stretching, and for tests.
    pub const LIGHT: Self = Self { n: 128, r: 8, p: 1 };
    /// The least that typed passwords get: 32 MiB, once.
    pub const LEAST: Self = Self { n: 32_768, r: 8, p: 1 };

    /// Most memory that a key file may ask for, in bytes: twenty times what restic calibrates to.
    const MAX_MEMORY: u64 = 1 << 30;
    /// Most work, as `n * r * p`: 128 times [`Kdf::LEAST`], some ten seconds.
    const MAX_WORK: u64 = 1 << 25;
    /// Restic's limits for calibration, of which we keep the time.
    const TARGET: Duration = Duration::from_millis(500);

    /// As much work as fits into about half a second here, never less than [`Kdf::LEAST`].
    ///
    /// Memory stays at that of [`Kdf::LEAST`], below the 60 MiB that restic allows itself; the rest
    /// is repetition.
    #[must_use]
    pub fn calibrated(clock: &dyn Clock) -> Self {
        let begin = clock.elapsed();
        // A probe with parameters of our own cannot be refused.
        let probe = Self::LEAST.derive(b"probe", &[1; SALT_LEN]);
        let once = clock.elapsed().saturating_sub(begin).max(Duration::from_millis(1));
        drop(probe);
        let times = Self::TARGET.as_millis() / once.as_millis().max(1);
        Self { p: u32::try_from(times.clamp(1, 64)).unwrap_or(1), ..Self::LEAST }
    }

    /// Checks that the parameters are scrypt's and that we are ready to do that much.
    ///
    /// # Errors
    /// When they are not.
    pub fn check(self) -> Decoded<()> {
        let Self { n, r, p } = self;
        if n < 2 || !n.is_power_of_two() || r == 0 || p == 0 {
            return Err(DecodeError::malformed("its scrypt parameters are impossible"));
        }
        let blocks = u64::from(n).saturating_mul(r.into());
        // The lanes of all repetitions are held at once, beside the table of one of them.
        let lanes = u64::from(r).saturating_mul(p.into());
        let memory = blocks.max(lanes).saturating_mul(128);
        if memory > Self::MAX_MEMORY || blocks.saturating_mul(p.into()) > Self::MAX_WORK {
            return Err(DecodeError::malformed(format!(
                "its scrypt parameters ask for too much work: N={n} r={r} p={p}"
            )));
        }
        Ok(())
    }

    /// The key that a password makes. Takes `128 * n * r` bytes and the time that `p` says.
    ///
    /// # Errors
    /// When the parameters do not pass [`Self::check`].
    pub fn derive(self, password: &[u8], salt: &[u8; SALT_LEN]) -> Decoded<MasterKey> {
        self.check()?;
        let log_n = u8::try_from(self.n.ilog2()).map_err(|_cause| impossible())?;
        let params = scrypt::Params::new(log_n, self.r, self.p).map_err(|_cause| impossible())?;
        let mut bytes = Zeroizing::new([0; 64]);
        scrypt::scrypt(password, salt, &params, &mut bytes[..]).map_err(|_cause| impossible())?;
        MasterKey::from_bytes(&bytes)
            .ok_or_else(|| DecodeError::malformed("its password makes a key of zeros"))
    }
}

fn impossible() -> DecodeError {
    DecodeError::malformed("its scrypt parameters are impossible")
}

/// A key file: who made it, how to derive its key, and the sealed master key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// When it was made.
    pub created: Time,
    /// Who made it.
    pub username: String,
    /// Where it was made.
    pub hostname: String,
    /// The work to derive the key.
    pub kdf: Kdf,
    /// Makes equal passwords different keys.
    pub salt: [u8; SALT_LEN],
    /// The envelope of the master key's JSON.
    pub data: Vec<u8>,
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { created, username, hostname, kdf, .. } = self;
        write!(f, "KeyFile({username}@{hostname} {created} {kdf:?})")
    }
}

/// What a password opens.
#[derive(Debug)]
pub enum Opening {
    /// The master key.
    Key(MasterKey),
    /// Nothing: it is not this file's password.
    WrongPassword,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default = "no_time")]
    created: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    hostname: String,
    kdf: String,
    #[serde(rename = "N")]
    n: u32,
    r: u32,
    p: u32,
    salt: String,
    data: String,
}

/// What restic takes a time for that is not there. rustic writes neither time nor names.
fn no_time() -> String {
    "0001-01-01T00:00:00Z".into()
}

/// Borrowed, so that no copy of a secret is left behind.
#[derive(Deserialize)]
struct MasterWire<'a> {
    #[serde(borrow)]
    mac: MacWire<'a>,
    encrypt: &'a str,
}

#[derive(Deserialize)]
struct MacWire<'a> {
    k: &'a str,
    r: &'a str,
}

impl KeyFile {
    /// Seals `master` under `password`, with a fresh salt and the time of now.
    ///
    /// # Errors
    /// When the system has no randomness, or `kdf` is not accepted by [`Kdf::check`].
    pub fn create(cx: &Cx, master: &MasterKey, password: &[u8], made: Made<'_>) -> Result<Self> {
        let mut salt = [0; SALT_LEN];
        cx.fill(&mut salt)?;
        let user_key = made.kdf.derive(password, &salt).map_err(|error| error.of("new key"))?;
        Ok(Self {
            created: cx.now(),
            username: made.username.to_owned(),
            hostname: made.hostname.to_owned(),
            kdf: made.kdf,
            salt,
            data: user_key.seal(cx, &encode_master(master))?,
        })
    }

    /// The bytes of the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        object.text("created", time::to_text(self.created));
        object.text("username", &self.username);
        object.text("hostname", &self.hostname);
        object.text("kdf", "scrypt");
        object.number("N", self.kdf.n);
        object.number("r", self.kdf.r);
        object.number("p", self.kdf.p);
        object.text("salt", STANDARD.encode(self.salt));
        object.text("data", STANDARD.encode(&self.data));
        object.end();
        out
    }

    /// Reads the bytes of a file. Unknown fields are ignored.
    ///
    /// # Errors
    /// When it is malformed, names another derivation than scrypt, or asks for absurd work.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        if bytes.len() > MAX_LEN {
            return Err(DecodeError::malformed("it is too long for a key"));
        }
        let wire: Wire = serde_json::from_slice(bytes)?;
        if wire.kdf != "scrypt" {
            return Err(DecodeError::malformed("its key derivation is not scrypt"));
        }
        let kdf = Kdf { n: wire.n, r: wire.r, p: wire.p };
        kdf.check()?;
        let salt = base64(&wire.salt)?;
        let salt = salt
            .as_slice()
            .try_into()
            .map_err(|_cause| DecodeError::malformed("its salt has not 64 bytes"))?;
        let data = base64(&wire.data)?.to_vec();
        if data.len() < crypto::OVERHEAD {
            return Err(DecodeError::malformed("its sealed key is too short"));
        }
        Ok(Self {
            created: time::parse(&wire.created)
                .ok_or_else(|| DecodeError::malformed("its time is no time"))?,
            username: wire.username,
            hostname: wire.hostname,
            kdf,
            salt,
            data,
        })
    }

    /// Tries a password: takes the time and memory that [`KeyFile::kdf`] says.
    ///
    /// # Errors
    /// When the password is right, as the MAC says, and what it opens is no master key. A flipped
    /// bit of the file cannot be told from a wrong password here; its name, which is its hash, tells.
    pub fn open(&self, password: &[u8]) -> Decoded<Opening> {
        let user_key = self.kdf.derive(password, &self.salt)?;
        let Ok(json) = user_key.open(&self.data) else {
            return Ok(Opening::WrongPassword);
        };
        decode_master(&Zeroizing::new(json)).map(Opening::Key)
    }
}

/// Who makes a key, where, and how much work it is to use it.
#[derive(Clone, Copy, Debug)]
pub struct Made<'a> {
    /// User name.
    pub username: &'a str,
    /// Host name.
    pub hostname: &'a str,
    /// Work to derive the key.
    pub kdf: Kdf,
}

fn encode_master(master: &MasterKey) -> Zeroizing<Vec<u8>> {
    let (encrypt, k, r) = master.parts();
    let [encrypt, k, r] =
        [&encrypt[..], &k[..], &r[..]].map(|part| Zeroizing::new(STANDARD.encode(part)));
    // Written once with room enough, so that no copy is left behind.
    let mut out = Zeroizing::new(Vec::with_capacity(256));
    for part in [r#"{"mac":{"k":""#, &k, r#"","r":""#, &r, r#""},"encrypt":""#, &encrypt, r#""}"#] {
        out.extend_from_slice(part.as_bytes());
    }
    out
}

fn decode_master(json: &[u8]) -> Decoded<MasterKey> {
    let wire: MasterWire = serde_json::from_slice(json)?;
    let mut bytes = Zeroizing::new([0; 64]);
    let mut rest = &mut bytes[..];
    for (text, len) in [(wire.encrypt, 32), (wire.mac.k, 16), (wire.mac.r, 16)] {
        let part = base64(text)?;
        if part.len() != len {
            return Err(DecodeError::malformed("its master key has a wrong length"));
        }
        let (head, tail) = rest.split_at_mut(len);
        head.copy_from_slice(&part);
        rest = tail;
    }
    MasterKey::from_bytes(&bytes)
        .ok_or_else(|| DecodeError::malformed("its master key is all zero"))
}

fn base64(text: &str) -> Decoded<Zeroizing<Vec<u8>>> {
    let bytes = STANDARD
        .decode(text)
        .map_err(|_cause| DecodeError::malformed("it has a field that is no base64"))?;
    Ok(Zeroizing::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alidade_entity::{Cancel, SystemClock};

    /// Made by stock restic with the password `secret`.
    const STOCK: &str = r#"{"created":"2026-11-21T12:36:27.315088493Z","username":"root","hostname":"vm","kdf":"scrypt","N":32768,"r":8,"p":6,"salt":"Tg0qWYQ0F8bjn0aBGmac3S3B46FErXNBcuDatPF2TcDs0rdok0XWOYeqMl4egVm+dTq1NToFXyDAvewTbJ65oA==","data":"95cu48k1rCFfuXxArRvcQidI3u7wzktSiNShJu4NyoPFxIsB1dmfdXDvJ+E+FmwRJJCXII6tK57tGE8hYRFNUvO7zIHZ8SCFsquoAPoJX5vY8kBIYPh67L4XzRTVLjMwMdDogDMCtAOfLkp7UJiOIxcFTBbxwsWjeP98GjleWw181MdbPAs+QWV4qeAe7zH6ptMTyfEGCevdAkxwoIdqUg=="}"#;

    fn cx() -> Cx {
        Cx::system(Cancel::default())
    }

    fn light() -> (MasterKey, KeyFile) {
        let master = MasterKey::generate(&cx()).unwrap();
        let made = Made { username: "<u>", hostname: "h", kdf: Kdf::LIGHT };
        let file = KeyFile::create(&cx(), &master, b"pass", made).unwrap();
        (master, file)
    }

    #[test]
    fn a_stock_key_opens_with_its_password_and_is_written_the_same() {
        let file = KeyFile::decode(STOCK.as_bytes()).unwrap();
        assert_eq!(file.encode(), STOCK.as_bytes());
        assert!(matches!(file.open(b"secret").unwrap(), Opening::Key(_)));
        assert!(matches!(file.open(b"Secret").unwrap(), Opening::WrongPassword));
    }

    #[test]
    fn a_new_key_reads_back_and_holds_the_master_key() {
        let (master, file) = light();
        let read = KeyFile::decode(&file.encode()).unwrap();
        assert_eq!(read, file);
        let Opening::Key(opened) = read.open(b"pass").unwrap() else { panic!() };
        assert_eq!(opened.parts(), master.parts());
        assert!(matches!(read.open(b"").unwrap(), Opening::WrongPassword));
        assert!(!format!("{read:?}").contains(&STANDARD.encode(&read.data)));
    }

    #[test]
    fn absurd_scrypt_parameters_are_refused_at_once() {
        let absurd = [
            (0, 8, 1),
            (1, 8, 1),
            (3, 8, 1),
            (32_767, 8, 1),
            (16, 0, 1),
            (16, 8, 0),
            (1 << 31, 8, 1),
            (1 << 21, 8, 1),
            (2, u32::MAX, 1),
            (2, 1, u32::MAX),
            (2, u32::MAX, u32::MAX),
            (2, 1, 1 << 24),
            (1 << 15, 8, 129),
            (1 << 20, 8, 5),
        ];
        for (n, r, p) in absurd {
            let text =
                STOCK.replace(r#""N":32768,"r":8,"p":6"#, &format!(r#""N":{n},"r":{r},"p":{p}"#));
            assert!(KeyFile::decode(text.as_bytes()).is_err(), "N={n} r={r} p={p}");
            assert!(Kdf { n, r, p }.derive(b"x", &[1; SALT_LEN]).is_err());
        }
        for kdf in
            [Kdf::LIGHT, Kdf::LEAST, Kdf { p: 64, ..Kdf::LEAST }, Kdf { n: 1 << 20, r: 8, p: 1 }]
        {
            kdf.check().unwrap();
        }
    }

    #[test]
    fn damaged_key_files_are_refused() {
        let bads = [
            String::new(),
            "{}".to_owned(),
            STOCK[..STOCK.len() - 1].to_owned(),
            STOCK.replace("scrypt", "argon2"),
            STOCK.replace("Tg0q", "Tg0qTg0q"),
            STOCK.replace("Tg0q", "Tg!q"),
            STOCK.replace("2026-11-21T", "2026-13-21T"),
            STOCK.replace(r#""N":32768"#, r#""N":-32768"#),
            STOCK.replace(r#""N":32768"#, r#""N":32768.5"#),
            STOCK.replace(r#""salt""#, r#""sal""#),
            format!("{}{}", STOCK, " ".repeat(MAX_LEN)),
        ];
        for bad in bads {
            assert!(KeyFile::decode(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_right_password_of_a_key_that_holds_no_master_key_is_damage() {
        let salt = [3; SALT_LEN];
        let user = Kdf::LIGHT.derive(b"p", &salt).unwrap();
        let zeros = format!(
            r#"{{"mac":{{"k":"{0}","r":"{0}"}},"encrypt":"{0}{0}"}}"#,
            "AAAAAAAAAAAAAAAAAAAAAA=="
        );
        for json in ["", "{}", r#"{"mac":{"k":"","r":""},"encrypt":""}"#, &zeros] {
            let (_, file) = light();
            let data = user.seal(&cx(), json.as_bytes()).unwrap();
            assert!(KeyFile { salt, data, ..file }.open(b"p").is_err(), "{json}");
        }
    }

    #[test]
    fn calibration_stays_within_what_is_accepted() {
        let kdf = Kdf::calibrated(&SystemClock::new());
        assert!(kdf.p >= 1 && kdf.n == Kdf::LEAST.n);
        kdf.check().unwrap();
    }
}
