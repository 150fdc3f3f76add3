-- Released holds stay for days. Whoever looks for open ones, or for those to forget, must not read them all.
CREATE INDEX holds_open ON holds (node, epoch) WHERE state = 0;
CREATE INDEX holds_released ON holds (at) WHERE state = 2;
