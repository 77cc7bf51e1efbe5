//! The proxy before a server that answers every line with the same line: each fault is seen from the client's end.

use tokio::io::BufReader;
use tokio::time::timeout;

use super::*;

/// Long enough to be sure that something comes.
const LONG: Duration = Duration::from_secs(10);
/// Long enough for something to come that must not.
const MOMENT: Duration = Duration::from_millis(60);

/// A server that sends back what it gets, and remembers it.
struct Echo {
    port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let all = heard.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let all = all.clone();
                tokio::spawn(async move {
                    let mut bytes = vec![0; CHUNK];
                    while let Ok(length @ 1..) = client.read(&mut bytes).await {
                        all.lock().unwrap().extend_from_slice(&bytes[..length]);
                        if client.write_all(&bytes[..length]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { port, heard }
    }

    fn heard(&self) -> String {
        String::from_utf8(self.heard.lock().unwrap().clone()).unwrap()
    }
}

async fn client(proxy: &Proxy) -> BufReader<TcpStream> {
    BufReader::new(TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.unwrap())
}

/// What comes back within a time: `None` when nothing does, an empty text when the line is cut.
async fn answer(client: &mut BufReader<TcpStream>, length: usize, within: Duration) -> Option<String> {
    let mut text = vec![0; length];
    match timeout(within, client.read_exact(&mut text)).await {
        Ok(Ok(_)) => Some(String::from_utf8(text).unwrap()),
        Ok(Err(_)) => Some(String::new()),
        Err(_) => None,
    }
}

async fn ask(client: &mut BufReader<TcpStream>, text: &str, within: Duration) -> Option<String> {
    client.write_all(text.as_bytes()).await.ok();
    answer(client, text.len(), within).await
}

async fn stage() -> (Echo, Proxy, BufReader<TcpStream>) {
    let echo = Echo::start().await;
    let proxy = Proxy::start(echo.port).await;
    let mut line = client(&proxy).await;
    assert_eq!(ask(&mut line, "hello", LONG).await.unwrap(), "hello");
    (echo, proxy, line)
}

async fn becomes(proxy: &Proxy, lines: usize) {
    crate::wait::until("the number of lines", LONG, async || (proxy.lines() == lines).then_some(())).await;
}

#[tokio::test]
async fn everything_passes_and_a_goodbye_too() {
    let (_echo, proxy, mut line) = stage().await;
    let text = "0123456789".repeat(100_000);
    let (mut read, mut write) = tokio::io::split(line.get_mut());
    let mut back = vec![0; text.len()];
    let (sent, came) = tokio::join!(write.write_all(text.as_bytes()), read.read_exact(&mut back));
    sent.unwrap();
    came.unwrap();
    assert!(back == text.as_bytes(), "something was changed on the way");
    assert_eq!(proxy.lines(), 1);
    drop(line);
    becomes(&proxy, 0).await;
    assert_eq!(proxy.cuts(), 0, "who hangs up was not cut off");
}

#[tokio::test]
async fn all_lines_are_cut_and_new_ones_are_let_in() {
    let (_echo, proxy, mut line) = stage().await;
    let mut second = client(&proxy).await;
    assert_eq!(ask(&mut second, "two", LONG).await.unwrap(), "two");
    proxy.cut();
    assert_eq!(ask(&mut line, "gone?", LONG).await.unwrap(), "");
    assert_eq!(ask(&mut second, "gone?", LONG).await.unwrap(), "");
    let mut third = client(&proxy).await;
    assert_eq!(ask(&mut third, "three", LONG).await.unwrap(), "three");
    becomes(&proxy, 1).await;
    assert_eq!(proxy.cuts(), 2);
}

#[tokio::test]
async fn a_line_is_cut_after_the_nth_byte() {
    let (_echo, proxy, mut line) = stage().await;
    proxy.arm(Cut::After(Way::ToClient, 8));
    assert_eq!(ask(&mut line, "12345", LONG).await.unwrap(), "12345");
    assert!(proxy.armed());
    assert_eq!(ask(&mut line, "678", LONG).await.unwrap(), "678");
    assert!(!proxy.armed());
    assert_eq!(answer(&mut line, 1, LONG).await.unwrap(), "");
}

#[tokio::test]
async fn a_message_is_cut_before_it_is_heard_even_in_two_pieces() {
    let (echo, proxy, mut line) = stage().await;
    proxy.arm(Cut::Unheard(Way::ToServer, b"commit".to_vec()));
    assert_eq!(ask(&mut line, "begin com", LONG).await.unwrap(), "begin com");
    assert_eq!(ask(&mut line, "mit ", LONG).await.unwrap(), "");
    assert_eq!(echo.heard(), "hellobegin com");
    let mut line = client(&proxy).await;
    assert_eq!(ask(&mut line, "commit", LONG).await.unwrap(), "commit", "once");
    proxy.arm(Cut::Unheard(Way::ToServer, b"commit".to_vec()));
    assert_eq!(ask(&mut line, "well, commit", LONG).await.unwrap(), "");
    let before = async || (echo.heard() == "hellobegin comcommitwell, ").then_some(());
    crate::wait::until("what was said before it", LONG, before).await;
}

#[tokio::test]
async fn an_answer_is_cut_off_when_the_server_has_given_it() {
    let (echo, proxy, mut line) = stage().await;
    proxy.arm(Cut::Unanswered(Way::ToServer, b"commit".to_vec()));
    assert_eq!(ask(&mut line, "begin", LONG).await.unwrap(), "begin");
    assert_eq!(ask(&mut line, "commit", LONG).await.unwrap(), "");
    assert_eq!(echo.heard(), "hellobegincommit");
    assert!(!proxy.armed());
}

#[tokio::test]
async fn a_delay_keeps_order_and_takes_its_time() {
    let (_echo, proxy, mut line) = stage().await;
    proxy.flow(Way::ToServer, Flow::Delay(Duration::from_millis(40)));
    proxy.flow(Way::ToClient, Flow::Delay(Duration::from_millis(30)));
    let begun = Instant::now();
    assert_eq!(ask(&mut line, "one", LONG).await.unwrap(), "one");
    assert!(begun.elapsed() >= Duration::from_millis(70), "{:?}", begun.elapsed());
    // A delay is not a width: what comes together is late together.
    let begun = Instant::now();
    for _ in 0..50 {
        line.write_all(b"abc").await.unwrap();
    }
    assert_eq!(answer(&mut line, 150, LONG).await.unwrap(), "abc".repeat(50));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    proxy.flows(Flow::Delay(Duration::from_secs(1_000)));
    line.write_all(b"late").await.unwrap();
    proxy.pass();
    assert_eq!(answer(&mut line, 4, LONG).await.unwrap(), "late", "a delay that was called off is over");
}

#[tokio::test]
async fn a_trickle_brings_everything_piece_by_piece() {
    let (_echo, proxy, mut line) = stage().await;
    proxy.flow(Way::ToClient, Flow::Trickle { bytes: 3, every: Duration::from_millis(10) });
    let begun = Instant::now();
    assert_eq!(ask(&mut line, "0123456789", LONG).await.unwrap(), "0123456789");
    assert!(begun.elapsed() >= Duration::from_millis(30), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_is_held_comes_later_and_what_is_swallowed_never() {
    let (echo, proxy, mut line) = stage().await;
    proxy.flow(Way::ToClient, Flow::Hold);
    assert_eq!(ask(&mut line, "held", MOMENT).await, None);
    assert_eq!(echo.heard(), "helloheld");
    proxy.pass();
    assert_eq!(answer(&mut line, 4, LONG).await.unwrap(), "held");

    proxy.flows(Flow::Swallow);
    assert_eq!(ask(&mut line, "lost", MOMENT).await, None);
    let mut second = client(&proxy).await;
    assert_eq!(ask(&mut second, "half-open", MOMENT).await, None, "it is let in, and hears nothing");
    assert_eq!(echo.heard(), "helloheld");
    proxy.pass();
    assert_eq!(answer(&mut line, 1, LONG).await.unwrap(), "", "it cannot go on after that");
    assert_eq!(answer(&mut second, 1, LONG).await.unwrap(), "");
}

#[tokio::test]
async fn dead_lines_stay_dead_and_new_ones_pass() {
    let (echo, proxy, mut line) = stage().await;
    proxy.deaden();
    assert_eq!(ask(&mut line, "anybody?", MOMENT).await, None);
    let mut second = client(&proxy).await;
    assert_eq!(ask(&mut second, "new", LONG).await.unwrap(), "new");
    proxy.pass();
    assert_eq!(ask(&mut line, "anybody?", MOMENT).await, None);
    assert_eq!(echo.heard(), "hellonew");
    proxy.cut();
    assert_eq!(answer(&mut line, 1, LONG).await.unwrap(), "");
    assert_eq!(answer(&mut second, 1, LONG).await.unwrap(), "");
}

#[tokio::test]
async fn nobody_says_goodbye_on_a_dead_line() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap().port()).await;
    for heals in [false, true] {
        let mut line = client(&proxy).await;
        let (server, _) = listener.accept().await.unwrap();
        if heals {
            proxy.flows(Flow::Hold);
        } else {
            proxy.deaden();
        }
        drop(server);
        assert_eq!(answer(&mut line, 1, MOMENT).await, None, "the server has gone, and nobody is told");
        proxy.pass();
        let within = if heals { LONG } else { MOMENT };
        assert_eq!(answer(&mut line, 1, within).await, heals.then(String::new));
    }
}

#[tokio::test]
async fn who_knocks_is_refused_and_open_lines_stay() {
    let (_echo, proxy, mut line) = stage().await;
    proxy.refuse();
    let refused = async || {
        let error = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.err()?;
        (error.kind() == std::io::ErrorKind::ConnectionRefused).then_some(())
    };
    crate::wait::until("a refusal", LONG, refused).await;
    assert_eq!(ask(&mut line, "still here", LONG).await.unwrap(), "still here");
    proxy.pass();
    let again = async || TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.ok();
    let mut line = BufReader::new(crate::wait::until("a welcome", LONG, again).await);
    assert_eq!(ask(&mut line, "back", LONG).await.unwrap(), "back");
}

#[tokio::test]
async fn it_ends_with_its_owner() {
    let (_echo, proxy, mut line) = stage().await;
    drop(proxy);
    assert_eq!(answer(&mut line, 1, LONG).await.unwrap(), "");
}
