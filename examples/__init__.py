"""Uses of cachekit, each a module to run and to copy from: ``python -m examples.NAME``.

``error_profile`` caches a result that is expensive to assemble, ``passkey_challenge`` spends a value once,
``adaptive_loop`` keeps snapshots of a text, and ``slow_source`` shows a source that is slow, dies and comes back. They
need rich: ``pip install '.[examples]'``.
"""
