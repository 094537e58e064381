//! A broadcast server over tokio-tungstenite: what one client sends goes to every other.
//!
//! Messages are shared (`Bytes`, `Utf8Bytes`), those outstanding are fed one after the other and flushed
//! once, so that they leave in one write. The read buffer is small, as the library advises for many
//! connections; the write buffer takes what 32 outstanding messages of 512 bytes need.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use tidegate_peers::Hub;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

const READ_BUFFER_BYTES: usize = 4 * 1024;
const WRITE_BUFFER_BYTES: usize = 32 * 1024;

fn main() -> std::process::ExitCode {
    tidegate_peers::main(|stream, hub| async move {
        // A connection that ends, breaks or falls behind is closed; the others do not care why.
        let _ = serve(stream, hub).await;
    })
}

async fn serve(
    stream: TcpStream,
    hub: Arc<Hub<Message>>,
) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    let config =
        WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES).write_buffer_size(WRITE_BUFFER_BYTES);
    let mut socket = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await?;
    let mut member = hub.join();
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            biased;
            received = member.receive(&mut batch) => {
                if received.is_none() {
                    return Ok(());
                }
                for message in batch.drain(..) {
                    socket.feed(message).await?;
                }
                // Of its own messages a sender gets nothing, and there is nothing to flush.
                socket.flush().await?;
            }
            message = socket.next() => match message {
                Some(message) => {
                    let message = message?;
                    if message.is_text() || message.is_binary() {
                        hub.publish(member.id, message);
                    }
                }
                None => return Ok(()),
            },
        }
    }
}
