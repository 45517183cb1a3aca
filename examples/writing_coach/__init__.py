"""A writing coach: the three consumers of cachekit in one small web application.

Run it, and open the address that it prints:

    python -m examples.writing_coach

Each consumer is one file to copy from; the others are what any web application has::

    __main__.py    the command line: where Redis and the database are, how many workers
      app.py       the application: settings, life, headers, errors as sentences
        passkeys.py    sign up and sign in; a challenge is cached for 5 minutes and spent once
        writing.py     snapshots of a text, kept for 24 hours at most; what the writer corrects is learnt
        profile.py     what a writer gets wrong, assembled from the database and cached for 10 minutes
          panel.py     what the cache did, told by its events
          web.py       what the routes share: the database, the session, a refusal as a sentence
            database.py  the tables, on SQLite or PostgreSQL
    static/        the page: HTML, CSS and JavaScript as the browser reads them
"""
