"""How a restoration is asked for: profiles, the files they are read from, hours to work in."""
