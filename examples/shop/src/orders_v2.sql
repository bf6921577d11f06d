CREATE TABLE IF NOT EXISTS customers (
    id       TEXT PRIMARY KEY,
    username TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS orders (
    id       TEXT    PRIMARY KEY,
    customer TEXT    NOT NULL,
    sku      TEXT    NOT NULL,
    quantity INTEGER NOT NULL,
    cents    INTEGER NOT NULL,
    state    TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS orders_of_customer ON orders (customer);
