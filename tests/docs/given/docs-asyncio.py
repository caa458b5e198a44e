from surroundings import write_files

write_files("docs/first-plugin.md", "kv.proto", "shared.py")
