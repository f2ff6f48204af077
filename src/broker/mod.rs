//! Owns every state: catalog, queue hosts, publish path.
