//! Every YAML snippet of the Ollama page of Olla.
