//! A reader: loads, reads and asks for heads, and compares with what its process knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::client::Client;
use crate::writer::any_stream;

pub(crate) async fn read(client: Arc<Client>, mut rng: fastrand::Rng, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let stream = any_stream(&mut rng);
        match rng.u8(0..100) {
            0..70 => drop(client.load(&stream, false).await),
            70..72 => drop(client.load(&stream, true).await),
            72..74 => client.read(&stream).await,
            _ => client.head(&stream).await,
        }
        sleep(Duration::from_millis(rng.u64(0..20))).await;
    }
}
