//! A mail server that keeps what it gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

/// How long a letter may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running mail server.
#[derive(Debug)]
pub(crate) struct SmtpServer {
    pub(crate) port: u16,
    letters: UnboundedReceiver<Letter>,
    refusals: Arc<AtomicU32>,
    _serving: JoinSet<()>,
}

/// A letter that arrived.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) to: String,
    pub(crate) data: String,
}

impl SmtpServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (sender, letters) = unbounded_channel();
        let refusals = Arc::new(AtomicU32::new(0));
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, sender, Arc::clone(&refusals)));
        Self { port, letters, refusals, _serving: serving }
    }

    /// The next letters are not taken for now.
    pub(crate) fn refuse(&self, count: u32) {
        self.refusals.store(count, Ordering::SeqCst);
    }

    /// How many of them were not refused yet.
    pub(crate) fn refusals_left(&self) -> u32 {
        self.refusals.load(Ordering::SeqCst)
    }

    /// The next letter.
    pub(crate) async fn letter(&mut self) -> Letter {
        tokio::time::timeout(PATIENCE, self.letters.recv()).await.expect("in time").expect("the server runs")
    }
}

impl Letter {
    /// The token in its link.
    pub(crate) fn token(&self) -> String {
        let text = self.text();
        let (_, token) = text.split_once("?token=").unwrap_or_else(|| panic!("no link: {text}"));
        token.chars().take_while(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_')).collect()
    }

    /// The part that is text. Letters in English travel as they are, or with some characters quoted.
    pub(crate) fn text(&self) -> String {
        let (_, part) = self.data.split_once("Content-Type: text/plain").unwrap_or_else(|| panic!("no text: {self:?}"));
        let (head, body) = part.split_once("\r\n\r\n").expect("a head and a body");
        match head.contains("quoted-printable") {
            true => body.replace("=\r\n", "").replace("=3D", "="),
            false => body.to_owned(),
        }
    }
}

async fn serve(listener: TcpListener, sender: UnboundedSender<Letter>, refusals: Arc<AtomicU32>) {
    let mut talks = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        talks.spawn(talk(stream, sender.clone(), Arc::clone(&refusals)));
    }
}

/// One client, as far as RFC 5321 §4.5.1 says that every server must go.
async fn talk(stream: TcpStream, sender: UnboundedSender<Letter>, refusals: Arc<AtomicU32>) {
    let (reading, mut writing) = stream.into_split();
    let mut lines = BufReader::new(reading).lines();
    let mut to = String::new();
    let mut answer = "220 test".to_owned();
    loop {
        if writing.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
            return;
        }
        let Ok(Some(line)) = lines.next_line().await else { return };
        answer = match line.split([' ', ':']).next().unwrap_or_default().to_uppercase().as_str() {
            "EHLO" | "HELO" => "250-test\r\n250 8BITMIME".to_owned(),
            "MAIL" if refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() => {
                "451 not now".to_owned()
            }
            "RCPT" => {
                to = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                "250 ok".to_owned()
            }
            "DATA" => {
                let _ = writing.write_all(b"354 go on\r\n").await; // whoever is gone is found out below
                let mut data = String::new();
                while let Ok(Some(line)) = lines.next_line().await {
                    if line == "." {
                        break;
                    }
                    data += line.strip_prefix('.').unwrap_or(&line);
                    data += "\r\n";
                }
                let _ = sender.send(Letter { to: std::mem::take(&mut to), data }); // nobody reads it at the end of a test
                "250 taken".to_owned()
            }
            "QUIT" => "221 bye".to_owned(),
            _ => "250 ok".to_owned(),
        };
    }
}
