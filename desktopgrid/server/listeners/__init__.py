"""The server's doors; the only code that imports asyncio, aiohttp or uvloop."""
