//! A Vulkan layer for the processes of a render server: its VM's lease and memory quota.
