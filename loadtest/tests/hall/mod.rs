//! What servers of the tests' own have in common: subscribers and publishers on one port, a thread each.

use std::io::BufRead;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Has `talk` with whoever connects, all over one `hall`; gives the port.
pub fn serve<H: Send + 'static>(hall: H, talk: fn(TcpStream, &Mutex<H>)) -> u16 {
    let hall = Arc::new(Mutex::new(hall));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let hall = Arc::clone(&hall);
            std::thread::spawn(move || talk(stream, &hall));
        }
    });
    port
}

/// The next request head, the empty line included; none if the client has ended.
pub fn read_head(reader: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return None;
        }
    }
    Some(head)
}

/// A frame of less than 64 KiB that begins with `first`.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    let header = if length < 126 {
        vec![first, length as u8]
    } else {
        [&[first, 126][..], &(length as u16).to_be_bytes()].concat()
    };
    [&header, payload].concat()
}
