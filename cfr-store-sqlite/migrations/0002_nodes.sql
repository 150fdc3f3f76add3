-- Which process runs under a node's name, and until when it is taken for alive.

ALTER TABLE nodes ADD COLUMN boot BLOB NOT NULL DEFAULT x'00000000000000000000000000000000' CHECK (length(boot) = 16);
ALTER TABLE nodes ADD COLUMN seen_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN alive_until INTEGER NOT NULL DEFAULT 0; -- unless another life begins, or this one is fenced
ALTER TABLE nodes ADD COLUMN fenced INTEGER NOT NULL DEFAULT 0 CHECK (fenced IN (0, 1));
