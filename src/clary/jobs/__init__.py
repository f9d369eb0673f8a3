"""Work that outlasts the call that asked for it; a process that is started when first needed."""
