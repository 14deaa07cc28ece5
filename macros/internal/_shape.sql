{% macro _shape(relation) %}
  {%- set place -%}
    lower(database_name) = '{{ relation.database | lower | replace("'", "''") }}'
    and lower(schema_name) = '{{ relation.schema | lower | replace("'", "''") }}'
    and lower(table_name) = '{{ relation.identifier | lower | replace("'", "''") }}'
  {%- endset -%}
  {%- set query -%}
    select
      substr(sql, strpos(sql, '(')) as definition,
      index_count > 0 or exists (
        select 1 from duckdb_constraints()
        where {{ place }} and constraint_type in ('PRIMARY KEY', 'UNIQUE', 'FOREIGN KEY')
      ) as has_keys,
      coalesce((
        select to_json(list(column_name)) from duckdb_columns() where {{ place }} and comment is not null
      ), '[]') as commented
    from duckdb_tables() where {{ place }}
  {%- endset -%}
  {%- for row in run_query(query).rows -%}
    {%- set indexes = '' -%}
    {% if row[1] %}
      {#- Not asked in vain: it fails where another thread replaces a table that has one. -#}
      {%- set listed -%}
        select coalesce(
          string_agg(concat_ws(' ', is_unique, expressions), '; ' order by is_unique, expressions), ''
        )
        from duckdb_indexes() where {{ place }}
      {%- endset -%}
      {%- set indexes = run_query(listed).rows[0][0] -%}
    {% endif %}
    {{ return({
      'definition': row[0],
      'indexes': indexes,
      'has_keys': row[1],
      'commented': fromjson(row[2]),
    }) }}
  {%- endfor -%}
  {{ return(none) }}
{% endmacro %}
