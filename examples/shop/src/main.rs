//! A day in the shop, told while it happens. Ends with status 1 if a projection or a read model says otherwise than the log.

use std::error::Error;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use futures_util::future::join_all;
use shop::{Audit, OrdersByCustomer, Release, Shop, explained};
use tailfold::ErrorKind;
use tailfold_sqlite::SqliteStore;

/// Plays a day in a shop: aggregates, projections, a live read model in SQL, and rules over many streams.
#[derive(Parser)]
#[command(name = "shop", version)]
struct Arguments {
    /// Where to keep the store and the read models; new or empty [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

type Done<T = ()> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shop: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Done {
    let temporary = tempfile::tempdir()?;
    let directory = arguments.directory.as_deref().unwrap_or(temporary.path());
    fs::create_dir_all(directory)?;
    if fs::read_dir(directory)?.next().is_some() {
        return Err(format!("{} is not empty: the day begins with a new shop", directory.display()).into());
    }
    let ada = morning(directory).await?;
    let (shop, orders) = afternoon(directory, &ada).await?;
    evening(shop, orders, &ada).await
}

/// Products, customers and orders; two rules hold however many ask at once. Answers the id of a customer.
async fn morning(directory: &Path) -> Done<String> {
    let shop = open(directory).await?;
    let orders = OrdersByCustomer::follow(shop.store(), directory, Release::First)?;

    heading("Morning: commands, and what they refuse");
    for (sku, cents, quantity) in [("tea", 450, 60), ("cup", 1_200, 5)] {
        shop.list(sku, cents).await?;
        shop.receive(sku, quantity).await?;
        say("listed", format!("{sku} at {}, {quantity} received", money(cents)));
    }
    refused("listed", shop.list("tea", 1).await)?;
    let ada = shop.register("ada").await?;
    say("registered", "ada");
    refused("registered", shop.register("ada").await)?;

    heading("A name for one only: a decision on all events with its tag");
    let (graces, others) = granted(join_all((0..16).map(|_| shop.register("grace"))).await)?;
    let [grace] = graces.as_slice() else {
        return Err(format!("{} customers of one name", graces.len()).into());
    };
    say("registered", format!("grace, once; {others} others wanted the name at the same time"));

    heading("Never more sold than there is: a decision on the stock");
    let (sold, others) = granted(join_all((0..16).map(|_| shop.place(grace, "cup", 1))).await)?;
    say("ordered", format!("{} of 5 cups; {others} orders at the same time were refused", sold.len()));
    refused("ordered", shop.place(grace, "cup", 1).await)?;

    heading("A live read model in SQL: orders by customer");
    let (tea, position) = shop.place(&ada, "tea", 2).await?;
    orders.wait_for(position).await?;
    say("reads", format!("ada sees her order at once: {} of them", orders.of(&ada)?.len()));
    orders.wait_for(shop.pay(&tea).await?).await?;
    for order in orders.of(&ada)? {
        say("reads", format!("{} {}, {}, {}", order.quantity, order.sku, money(order.cents), order.state));
    }
    refused("cancelled", shop.cancel(&tea).await)?;
    let lag = orders.lag().await?;
    say("lag", format!("{} events, {:?}", lag.events, lag.age));

    heading("An event that the read model cannot handle is parked, and the rest goes on");
    let long = shop.register("margaret-heafield").await?;
    let (_, position) = shop.place(&long, "tea", 1).await?;
    // Whoever waits while an event is parked is told of it.
    match orders.wait_for(position).await {
        Err(error) if *error.kind() == ErrorKind::Invalid => {}
        waited => waited?,
    }
    for parked in orders.parked()? {
        say("parked", format!("{} at {}: {}", parked.event_type, parked.position, parked.error));
    }

    heading("A restart");
    say("dashboard", explained(&shop.dashboard().await?));
    orders.stop().await?;
    shop.close().await?;
    Ok(ada)
}

/// Two rebuilds without downtime: of a read model, and of a projection.
async fn afternoon(directory: &Path, ada: &str) -> Done<(Shop, OrdersByCustomer)> {
    let shop = open(directory).await?;
    let old = OrdersByCustomer::follow(shop.store(), directory, Release::First)?;
    say("dashboard", explained(&shop.dashboard().await?));

    heading("Afternoon: a new read model is built beside the running one");
    let selling = async {
        for _ in 0..20 {
            let (order, _) = shop.place(ada, "tea", 2).await?;
            shop.pay(&order).await?;
        }
        let (order, _) = shop.place(ada, "tea", 5).await?;
        shop.cancel(&order).await
    };
    let building = async {
        let new = OrdersByCustomer::follow(shop.store(), directory, Release::Second)?;
        new.wait_until_current().await?;
        Ok::<_, tailfold::Error>(new)
    };
    let (sold, new) = futures_util::future::join(selling, building).await;
    let (position, new) = (sold?, new?);
    old.wait_for(position).await?;
    say("reads", format!("the old one knows {} orders, to the last", old.all()?.len()));
    new.wait_for(position).await?;
    say("reads", format!("the new one knows {}: it has no events parked", new.all()?.len()));
    old.stop().await?;
    say("switched", "to the new one; the old one is stopped");

    heading("The next release's dashboard is warmed before it takes over");
    say("today's", explained(&shop.dashboard().await?));
    let next = shop.next_dashboard()?;
    say("the next's", explained(&next.load(()).prewarm().await?));
    let warm = shop.next_dashboard()?.load(()).await?;
    say("and then", explained(&warm));
    say("sold", format!("{:?}", warm.state().sold));
    next.close().await?;
    Ok((shop, new))
}

/// A customer wants to be forgotten; then everything is compared with the log.
async fn evening(shop: Shop, orders: OrdersByCustomer, ada: &str) -> Done {
    heading("Evening: a customer is erased");
    orders.wait_until_current().await?;
    let before = (shop.dashboard().await?.state().customers.len(), orders.of(ada)?.len());
    say("before", format!("{} customers, {} orders of ada", before.0, before.1));
    orders.wait_for(shop.erase_customer(ada).await?).await?;
    let dashboard = shop.dashboard().await?;
    let after = (dashboard.state().customers.len(), orders.of(ada)?.len());
    say("after", format!("{} customers, {} orders of ada", after.0, after.1));
    say("dashboard", explained(&dashboard));
    if after != (before.0 - 1, 0) || dashboard.state().customers.contains(ada) {
        return Err("an erased customer is still there".into());
    }
    refused("ordered", shop.place(ada, "tea", 1).await)?;
    shop.register("ada").await?;
    say("registered", "another ada: the name was free");

    heading("Closing: everything against a pass over the log");
    shop.flush().await;
    let audit = Audit::of(shop.store()).await?;
    audit.compare(&shop, &orders).await?;
    let figures = &audit.dashboard;
    say(
        "orders",
        format!("{} placed, {} paid, {} cancelled", figures.placed, figures.paid, figures.cancelled),
    );
    say("revenue", money(figures.revenue_cents));
    say("left", format!("{:?}", audit.stock));
    say("equal", "dashboard, stock and read model are what the log says");
    orders.stop().await?;
    Ok(shop.close().await?)
}

async fn open(directory: &Path) -> Done<Shop> {
    Ok(Shop::over(SqliteStore::open(directory.join("shop.tailfold")).await?)?)
}

/// What was granted of several tries, and how many were refused.
fn granted<T>(tries: Vec<shop::Result<T>>) -> Done<(Vec<T>, usize)> {
    let (mut granted, mut refused) = (Vec::new(), 0);
    for outcome in tries {
        match outcome {
            Ok(done) => granted.push(done),
            Err(shop::Error::Refused(_)) => refused += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok((granted, refused))
}

/// Says why something was refused. That it was done is as wrong here as that it failed.
fn refused<T>(what: &str, outcome: shop::Result<T>) -> Done {
    match outcome {
        Err(shop::Error::Refused(refusal)) => {
            say("refused", refusal);
            Ok(())
        }
        Err(error) => Err(error.into()),
        Ok(_) => Err(format!("{what} although a rule forbids it").into()),
    }
}

fn heading(text: &str) {
    println!("\n{text}");
}

fn say(what: &str, text: impl Display) {
    println!("  {what:<12}{text}");
}

fn money(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}
