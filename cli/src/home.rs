//! Home: the folder with this device's key and the servers it has joined.
//!
//! `PIECEWISE_HOME`, or `piecewise` in the platform's configuration folder: `identity.key`, which only
//! its owner can read, and `servers.toml`.

use crate::report::{Failure, code};
use piecewise_core::handshake::NAME_LEN_MAX;
use piecewise_core::id::{PeerId, RealmId};
use piecewise_core::identity::Identity;
use piecewise_core::invite::Invite;
use piecewise_server::supervisor::{make_private_folder, read_or_make_key};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// This device's folder.
#[derive(Debug)]
pub(crate) struct Home {
    folder: PathBuf,
    servers: Servers,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Servers {
    /// What this device is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default)]
    server: Vec<KnownServer>,
}

/// A server that this device has joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownServer {
    /// Where it listens.
    pub(crate) address: String,
    #[serde(with = "hex")]
    key: [u8; 32],
    #[serde(with = "hex")]
    realm: [u8; 16],
}

impl KnownServer {
    pub(crate) fn key(&self) -> PeerId {
        PeerId(self.key)
    }

    pub(crate) fn realm(&self) -> RealmId {
        RealmId(self.realm)
    }
}

impl From<&Invite> for KnownServer {
    fn from(invite: &Invite) -> Self {
        Self { address: invite.address.clone(), key: invite.server.0, realm: invite.realm.0 }
    }
}

impl Home {
    /// Opens the folder; makes nothing.
    pub(crate) fn open() -> Result<Self, Failure> {
        let folder = match std::env::var_os("PIECEWISE_HOME").filter(|p| !p.is_empty()) {
            Some(folder) => PathBuf::from(folder),
            None => dirs::config_dir()
                .ok_or_else(|| Failure::new("there is no folder for settings").hint("set PIECEWISE_HOME"))?
                .join("piecewise"),
        };
        let path = folder.join("servers.toml");
        let servers = match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|e| {
                let hint = "mend it or remove it, then `piecewise join` again";
                Failure::new(format!("{} cannot be read: {}", path.display(), e.message())).hint(hint)
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Servers::default(),
            Err(error) => return Err(io_failure(&path, &error)),
        };
        Ok(Self { folder, servers })
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// This device's key pair, made at the first time.
    pub(crate) fn identity(&self) -> Result<Identity, Failure> {
        make_private_folder(&self.folder).map_err(|e| io_failure(&self.folder, &e))?;
        read_or_make_key(&self.folder.join("identity.key")).map_err(|e| {
            Failure::new(e.to_string()).hint("set PIECEWISE_HOME to a folder that you may write")
        })
    }

    /// What this device is called: as it was told, or as its host is.
    pub(crate) fn name(&self) -> String {
        self.servers.name.clone().unwrap_or_else(|| {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
            let host = host
                .or_else(|| std::env::var("COMPUTERNAME").ok())
                .or_else(|| std::env::var("HOSTNAME").ok());
            host.unwrap_or_default().trim().to_owned()
        })
    }

    /// Calls this device by a name of at most 64 bytes, from the next [`Self::remember`] on also in later runs.
    pub(crate) fn set_name(&mut self, name: &str) -> Result<(), Failure> {
        let name = name.trim();
        if name.is_empty() || name.len() > NAME_LEN_MAX || name.chars().any(char::is_control) {
            let why = format!("{name:?} cannot be the name of a device");
            return Err(Failure::new(why)
                .hint(format!("give 1 to {NAME_LEN_MAX} bytes without control characters"))
                .code(code::BAD_NAME));
        }
        self.servers.name = Some(name.to_owned());
        Ok(())
    }

    /// The servers joined.
    pub(crate) fn servers(&self) -> &[KnownServer] {
        &self.servers.server
    }

    /// Remembers a server, in place of an older entry of the same realm.
    pub(crate) fn remember(&mut self, server: KnownServer) -> Result<(), Failure> {
        self.servers.server.retain(|s| s.realm != server.realm);
        self.servers.server.push(server);
        self.save()
    }

    /// Drops a server.
    pub(crate) fn forget(&mut self, server: &KnownServer) -> Result<(), Failure> {
        self.servers.server.retain(|s| s != server);
        self.save()
    }

    fn save(&self) -> Result<(), Failure> {
        let path = self.folder.join("servers.toml");
        let text = toml::to_string(&self.servers).map_err(|e| Failure::new(e.to_string()))?;
        // Written beside and moved: a crash leaves the old list or the new one.
        let fresh = self.folder.join("servers.toml.new");
        std::fs::write(&fresh, text)
            .and_then(|()| std::fs::rename(&fresh, &path))
            .map_err(|e| io_failure(&path, &e))
    }

    /// The server of a realm.
    pub(crate) fn of_realm(&self, realm: &RealmId) -> Result<&KnownServer, Failure> {
        self.of_realm_named(&realm.to_string())
    }

    /// The server of a realm, as its name prints.
    pub(crate) fn of_realm_named(&self, realm: &str) -> Result<&KnownServer, Failure> {
        self.servers.server.iter().find(|s| s.realm().to_string() == realm).ok_or_else(|| {
            Failure::new("this device has not joined the server that the file belongs to")
                .hint("run `piecewise join INVITE`, or set PIECEWISE_HOME to the folder that was used before")
                .code(code::NOT_JOINED)
        })
    }

    /// The server that is meant: the one with this address or key, or with a part of it; or the only one.
    ///
    /// Of several with one address the last that was joined: the others were replaced by it.
    pub(crate) fn choose(&self, meant: Option<&str>) -> Result<&KnownServer, Failure> {
        let all = || self.servers.server.iter();
        let fits = |s: &&KnownServer| {
            meant.is_none_or(|m| s.address.contains(m) || s.key().to_string().starts_with(m))
        };
        let is_named = |s: &&KnownServer| meant.is_some_and(|m| s.address == m);
        let found: Vec<_> = match all().any(|s| is_named(&s)) {
            true => all().filter(is_named).collect(),
            false => all().filter(fits).collect(),
        };
        match (found.last(), meant) {
            (Some(last), _) if found.iter().all(|s| s.address == last.address) => Ok(last),
            (Some(_), _) => {
                let list: Vec<_> = found.iter().map(|s| format!("{} ({})", s.address, s.key().short())).collect();
                Err(Failure::new(format!("several servers were joined: {}", list.join(", ")))
                    .hint("say which: its address or a part of it, or how its key begins; `--server` in track and clone")
                    .code(code::WHICH_SERVER))
            }
            (None, None) => Err(Failure::new("this device has not joined a server yet").hint(
                "on the server, run `piecewise-server invite --grant 'DATABASE/*=write'`; here, `piecewise join INVITE`",
            ).code(code::NOT_JOINED)),
            (None, Some(meant)) => Err(Failure::new(format!("no server joined is like {meant:?}"))
                .hint("`piecewise identity` lists the servers joined")
                .code(code::WHICH_SERVER)),
        }
    }
}

fn io_failure(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{} cannot be used: {error}", path.display()))
        .hint("set PIECEWISE_HOME to a folder that you may write")
        .code(code::FILE)
}

/// Byte arrays as hexadecimal text.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&bytes.iter().map(|b| format!("{b:02x}")).collect::<String>())
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>, const N: usize>(d: D) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(d)?;
        let digit = |n: usize| text.get(2 * n..2 * n + 2).and_then(|d| u8::from_str_radix(d, 16).ok());
        let bytes: Option<Vec<u8>> = (0..N).map(digit).collect();
        let bytes = bytes.filter(|_| text.len() == 2 * N).and_then(|b| b.try_into().ok());
        bytes.ok_or_else(|| D::Error::custom(format!("expected {} hexadecimal digits", 2 * N)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_comes_back_from_its_file() {
        let server = KnownServer { address: "ws://127.0.0.1:1".into(), key: [1; 32], realm: [0xab; 16] };
        let servers = Servers { server: vec![server.clone()], ..Servers::default() };
        let text = toml::to_string(&servers).expect("it is TOML");
        let back: Servers = toml::from_str(&text).expect("it reads");
        assert_eq!(back.server, [server]);
        assert!(toml::from_str::<Servers>(&text.replace("abab", "ab")).is_err());
    }

    #[test]
    fn an_address_means_the_server_that_was_joined_there_last() {
        let server = |address: &str, n| KnownServer { address: address.into(), key: [n; 32], realm: [n; 16] };
        let home = |list: &[KnownServer]| Home {
            folder: PathBuf::new(),
            servers: Servers { server: list.to_vec(), ..Servers::default() },
        };
        let [old, long, new] = [server("ws://a:1", 1), server("ws://a:17", 2), server("ws://a:1", 3)];
        let all = home(&[old.clone(), long.clone(), new.clone()]);
        let key = |home: &Home, meant| home.choose(meant).map(|s| s.key[0]).map_err(|f| f.code);
        assert_eq!(key(&all, Some("ws://a:1")), Ok(3), "the old one was replaced");
        assert_eq!(key(&all, Some("0101")), Ok(1), "its key still means it");
        assert_eq!(key(&all, Some(":17")), Ok(2));
        assert_eq!(key(&all, Some("ws://a")), Err(code::WHICH_SERVER));
        assert_eq!(key(&all, None), Err(code::WHICH_SERVER));
        assert_eq!(key(&all, Some("b")), Err(code::WHICH_SERVER));
        assert_eq!(key(&home(&[old, new]), None), Ok(3));
        assert_eq!(key(&home(&[]), None), Err(code::NOT_JOINED));
    }
}
