BEGIN TRANSACTION;
CREATE TABLE begun (
    number INTEGER PRIMARY KEY,
    id     TEXT    NOT NULL UNIQUE,
    at     REAL    NOT NULL
);
INSERT INTO "begun" VALUES(1,'request-1',1800000000.0);
COMMIT;
PRAGMA user_version = 1;
